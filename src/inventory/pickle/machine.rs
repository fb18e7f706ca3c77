//! The stack machine, without anything to call.

use std::collections::HashMap;
use std::io::{Read, Seek};

use foldhash::fast::RandomState;

use super::opcode::{Opcode, refused_name};
use super::{Global, Node, NodeId, Pickle};
use crate::finding::code;
use crate::inventory::bytes::Bytes;
use crate::inventory::trouble::{Trouble, quoted};

/// Bounds of one pickle.
#[derive(Debug, Clone, Copy)]
pub(in crate::inventory) struct Limits {
    /// Bytes, the payloads of arrays not counted.
    pub(in crate::inventory) bytes: u64,
    /// Whether persistent ids (torch's references to storages) may stand in it.
    pub(in crate::inventory) persistent: bool,
}

/// Most nodes of a tree.
const MAX_NODES: usize = 4 << 20;
/// Longest string.
const MAX_TEXT: u64 = 1 << 20;
/// Longest module or name of a global.
const MAX_NAME: usize = 256;

/// Reads one pickle from the next byte on, up to its STOP.
pub(in crate::inventory) fn read(bytes: &mut Bytes<'_, impl Read + Seek>, limits: Limits) -> Result<Pickle, Trouble> {
    let mut machine = Machine::default();
    let start = bytes.at();
    let mut payload = 0_u64;
    let mut frame_end = None;
    loop {
        let at = bytes.at();
        if at.saturating_sub(start).saturating_sub(payload) > limits.bytes || machine.nodes.len() > MAX_NODES {
            let message = format!("the pickle is larger than {} bytes or {MAX_NODES} values", limits.bytes);
            return Err(Trouble::new(&code::TOO_LARGE, at, message));
        }
        let byte = bytes.u8()?;
        let Some(opcode) = Opcode::of(byte).filter(|opcode| *opcode != Opcode::BinPersId || limits.persistent) else {
            let message = format!("the opcode 0x{byte:02x} ({}) is not one that weights need", refused_name(byte));
            return Err(Trouble::new(&code::REFUSED_PICKLE, at, message)
                .help("the file is not read; save the weights as safetensors"));
        };
        if at == start && opcode != Opcode::Proto {
            return Err(malformed(at, "the pickle does not start with its protocol"));
        }
        match opcode {
            Opcode::Stop => {
                let root = machine.finish(at)?;
                return Ok(Pickle { nodes: machine.nodes, root, end: bytes.at() });
            }
            Opcode::Proto => {
                let version = bytes.u8()?;
                if at != start || !(2..=5).contains(&version) {
                    return Err(malformed(at, format!("protocol {version} was not expected here")));
                }
            }
            Opcode::Frame => {
                let length = bytes.u64()?;
                if frame_end.is_some_and(|end| at < end) || length > bytes.remaining() {
                    return Err(malformed(at, "a frame reaches beyond the frame or file that holds it"));
                }
                frame_end = Some(bytes.at() + length);
                continue;
            }
            _ => payload += machine.step(opcode, at, bytes)?,
        }
        // What begins in a frame ends in it.
        if frame_end.is_some_and(|end| at < end && bytes.at() > end) {
            return Err(malformed(at, "a value reaches beyond the frame that holds it"));
        }
    }
}

fn malformed(at: u64, message: impl Into<String>) -> Trouble {
    Trouble::new(&code::MALFORMED_PICKLE, at, message)
}

#[derive(Default)]
struct Machine {
    nodes: Vec<Node>,
    stack: Vec<NodeId>,
    /// Heights of the stack at each open MARK.
    marks: Vec<usize>,
    memo: HashMap<u32, NodeId, RandomState>,
}

impl Machine {
    fn finish(&mut self, at: u64) -> Result<NodeId, Trouble> {
        match (self.stack.as_slice(), self.marks.as_slice()) {
            (&[root], []) => Ok(root),
            _ => Err(malformed(at, "the pickle does not end with one value")),
        }
    }

    /// Executes what there is to execute; how many bytes of payload were passed over.
    fn step(&mut self, opcode: Opcode, at: u64, bytes: &mut Bytes<'_, impl Read + Seek>) -> Result<u64, Trouble> {
        match opcode {
            // Handled by the caller.
            Opcode::Stop | Opcode::Proto | Opcode::Frame => {}
            Opcode::Mark => self.marks.push(self.stack.len()),
            Opcode::None => self.push(Node::None),
            Opcode::NewTrue => self.push(Node::Bool(true)),
            Opcode::NewFalse => self.push(Node::Bool(false)),
            Opcode::BinInt => {
                let value = i32::from_le_bytes(bytes.array()?);
                self.push(Node::Int(value.into()));
            }
            Opcode::BinInt1 => {
                let value = bytes.u8()?;
                self.push(Node::Int(value.into()));
            }
            Opcode::BinInt2 => {
                let value = bytes.u16()?;
                self.push(Node::Int(value.into()));
            }
            Opcode::Long1 => {
                let length = bytes.u8()?;
                let value = long(bytes.vec(length.into())?);
                self.push(value);
            }
            Opcode::BinFloat => {
                bytes.skip(8)?;
                self.push(Node::Float);
            }
            Opcode::BinUnicode => {
                let length = bytes.u32()?;
                self.text(bytes, length.into(), at)?;
            }
            Opcode::ShortBinUnicode => {
                let length = bytes.u8()?;
                self.text(bytes, length.into(), at)?;
            }
            Opcode::ShortBinBytes => {
                let length = bytes.u8()?;
                return self.payload(bytes, length.into());
            }
            Opcode::BinBytes => {
                let length = bytes.u32()?;
                return self.payload(bytes, length.into());
            }
            Opcode::BinBytes8 | Opcode::ByteArray8 => {
                let length = bytes.u64()?;
                return self.payload(bytes, length);
            }
            Opcode::EmptyTuple => self.push(Node::Tuple(Box::default())),
            Opcode::EmptyList => self.push(Node::List(Vec::new())),
            Opcode::EmptyDict => self.push(Node::Dict(Vec::new())),
            Opcode::Tuple1 => self.tuple(1, at)?,
            Opcode::Tuple2 => self.tuple(2, at)?,
            Opcode::Tuple3 => self.tuple(3, at)?,
            Opcode::Tuple => {
                let items = self.pop_to_mark(at)?;
                self.push(Node::Tuple(items.into()));
            }
            Opcode::Append => {
                let item = self.pop(at)?;
                self.extend_list(&[item], at)?;
            }
            Opcode::Appends => {
                let items = self.pop_to_mark(at)?;
                self.extend_list(&items, at)?;
            }
            Opcode::SetItem => {
                let (value, key) = (self.pop(at)?, self.pop(at)?);
                self.extend_dict(&[key, value], at)?;
            }
            Opcode::SetItems => {
                let items = self.pop_to_mark(at)?;
                self.extend_dict(&items, at)?;
            }
            Opcode::BinGet => {
                let index = bytes.u8()?;
                self.get(index.into(), at)?;
            }
            Opcode::LongBinGet => {
                let index = bytes.u32()?;
                self.get(index, at)?;
            }
            Opcode::BinPut => {
                let index = bytes.u8()?;
                self.put(index.into(), at)?;
            }
            Opcode::LongBinPut => {
                let index = bytes.u32()?;
                self.put(index, at)?;
            }
            Opcode::Memoize => {
                let index = u32::try_from(self.memo.len()).unwrap_or(u32::MAX);
                self.put(index, at)?;
            }
            Opcode::Global => {
                let (module, name) = (line(bytes, at)?, line(bytes, at)?);
                self.global(&module, &name, at)?;
            }
            Opcode::StackGlobal => {
                let (name, module) = (self.pop_text(at)?, self.pop_text(at)?);
                self.global(&module, &name, at)?;
            }
            Opcode::Reduce => self.reduce(at)?,
            Opcode::NewObj => self.new_object(at)?,
            Opcode::Build => self.build(at)?,
            Opcode::BinPersId => {
                let id = self.pop(at)?;
                self.push(Node::Persistent(id));
            }
        }
        Ok(0)
    }

    fn push(&mut self, node: Node) {
        let id = NodeId(u32::try_from(self.nodes.len()).unwrap_or(u32::MAX));
        self.nodes.push(node);
        self.stack.push(id);
    }

    /// Nothing is taken from below an open MARK.
    fn pop(&mut self, at: u64) -> Result<NodeId, Trouble> {
        let floor = self.marks.last().copied().unwrap_or(0);
        if self.stack.len() > floor { self.stack.pop() } else { None }
            .ok_or_else(|| malformed(at, "the opcode needs a value that is not there"))
    }

    fn pop_to_mark(&mut self, at: u64) -> Result<Vec<NodeId>, Trouble> {
        let mark = self.marks.pop().ok_or_else(|| malformed(at, "the opcode needs a mark that is not there"))?;
        Ok(self.stack.split_off(mark.min(self.stack.len())))
    }

    fn top(&mut self, at: u64) -> Result<&mut Node, Trouble> {
        let floor = self.marks.last().copied().unwrap_or(0);
        let id = if self.stack.len() > floor { self.stack.last().copied() } else { None };
        id.and_then(|id| self.nodes.get_mut(id.0 as usize))
            .ok_or_else(|| malformed(at, "the opcode needs a value that is not there"))
    }

    fn node(&self, id: NodeId) -> &Node {
        self.nodes.get(id.0 as usize).unwrap_or(&Node::None)
    }

    fn text(&mut self, bytes: &mut Bytes<'_, impl Read + Seek>, length: u64, at: u64) -> Result<(), Trouble> {
        if length > MAX_TEXT {
            return Err(Trouble::new(
                &code::TOO_LARGE,
                at,
                format!("a string of {length} bytes; at most {MAX_TEXT} are read"),
            ));
        }
        let text = String::from_utf8(bytes.vec(length)?).map_err(|_| malformed(at, "a string is not UTF-8"))?;
        self.push(Node::Text(text.into()));
        Ok(())
    }

    fn payload(&mut self, bytes: &mut Bytes<'_, impl Read + Seek>, length: u64) -> Result<u64, Trouble> {
        let offset = bytes.at();
        bytes.skip(length)?;
        self.push(Node::Bytes { offset, length });
        Ok(length)
    }

    fn tuple(&mut self, count: usize, at: u64) -> Result<(), Trouble> {
        let mut items = Vec::with_capacity(count);
        for _ in 0..count {
            items.push(self.pop(at)?);
        }
        items.reverse();
        self.push(Node::Tuple(items.into()));
        Ok(())
    }

    fn extend_list(&mut self, items: &[NodeId], at: u64) -> Result<(), Trouble> {
        match self.top(at)? {
            Node::List(list) => {
                list.extend(items);
                Ok(())
            }
            _ => Err(malformed(at, "only a list can be appended to")),
        }
    }

    fn extend_dict(&mut self, items: &[NodeId], at: u64) -> Result<(), Trouble> {
        let (pairs, []) = items.as_chunks::<2>() else {
            return Err(malformed(at, "a key stands without its value"));
        };
        match self.top(at)? {
            Node::Dict(dict) => {
                dict.extend(pairs.iter().map(|&[key, value]| (key, value)));
                Ok(())
            }
            _ => Err(malformed(at, "only a dictionary can be given items")),
        }
    }

    fn get(&mut self, index: u32, at: u64) -> Result<(), Trouble> {
        let id =
            self.memo.get(&index).copied().ok_or_else(|| malformed(at, format!("nothing is memorised as {index}")))?;
        self.stack.push(id);
        Ok(())
    }

    fn put(&mut self, index: u32, at: u64) -> Result<(), Trouble> {
        self.top(at)?;
        if let Some(&id) = self.stack.last() {
            self.memo.insert(index, id);
        }
        Ok(())
    }

    fn pop_text(&mut self, at: u64) -> Result<String, Trouble> {
        let id = self.pop(at)?;
        match self.node(id) {
            Node::Text(text) => Ok(text.to_string()),
            _ => Err(malformed(at, "a global is named by something that is no text")),
        }
    }

    fn global(&mut self, module: &str, name: &str, at: u64) -> Result<(), Trouble> {
        let Some(global) = Global::find(module, name) else {
            let message =
                format!("the pickle names {}, which weights do not need", quoted(&format!("{module}.{name}")));
            return Err(Trouble::new(&code::REFUSED_PICKLE, at, message).help(remedy(module, name)));
        };
        self.push(Node::Global(global));
        Ok(())
    }

    fn reduce(&mut self, at: u64) -> Result<(), Trouble> {
        let (arguments, callee) = (self.pop(at)?, self.pop(at)?);
        let Node::Tuple(items) = self.node(arguments) else {
            return Err(malformed(at, "the arguments of a call are no tuple"));
        };
        match *self.node(callee) {
            Node::Global(callee) if callee.takes(items.len()) => {
                let node = match callee {
                    Global::OrderedDict => Node::Dict(Vec::new()),
                    callee => Node::Object { callee, arguments, state: None, at },
                };
                self.push(node);
                Ok(())
            }
            Node::Global(callee) => {
                let message = format!("`{}` is not called with {} arguments", callee.name(), items.len());
                Err(malformed(at, message))
            }
            _ => Err(malformed(at, "what is called is no global")),
        }
    }

    fn new_object(&mut self, at: u64) -> Result<(), Trouble> {
        let (arguments, class) = (self.pop(at)?, self.pop(at)?);
        match (self.node(class), self.node(arguments)) {
            (&Node::Global(callee @ Global::QuantizedWeight), Node::Tuple(items)) if items.is_empty() => {
                self.push(Node::Object { callee, arguments, state: None, at });
                Ok(())
            }
            _ => Err(malformed(at, "no object of this class is made")),
        }
    }

    fn build(&mut self, at: u64) -> Result<(), Trouble> {
        let given = self.pop(at)?;
        let is_dict = matches!(self.node(given), Node::Dict(_));
        match self.top(at)? {
            Node::Object { callee, state: state @ None, .. } if callee.takes_state() => {
                *state = Some(given);
                Ok(())
            }
            // The attributes of an ordered dictionary, such as `_metadata` of a state dict.
            Node::Dict(_) if is_dict => Ok(()),
            _ => Err(malformed(at, "this value takes no state")),
        }
    }
}

/// What to do about a global that is refused.
fn remedy(module: &str, name: &str) -> &'static str {
    match (module, name) {
        // Protocol 2 has no bytes and keeps them as text.
        ("_codecs", "encode") => "save the array with pickle protocol 3 or later",
        _ => "loading this file with Python would run it; it is not read here",
    }
}

/// A two's-complement number of any length.
fn long(bytes: Vec<u8>) -> Node {
    if bytes.len() > 8 {
        return Node::Long(bytes.into());
    }
    let fill = if bytes.last().is_some_and(|&last| last & 0x80 != 0) { 0xff } else { 0 };
    let mut wide = [fill; 8];
    for (slot, byte) in wide.iter_mut().zip(bytes) {
        *slot = byte;
    }
    Node::Int(i64::from_le_bytes(wide))
}

/// The text up to the next newline.
fn line(bytes: &mut Bytes<'_, impl Read + Seek>, at: u64) -> Result<String, Trouble> {
    let mut line = Vec::new();
    loop {
        match bytes.u8()? {
            b'\n' => return String::from_utf8(line).map_err(|_| malformed(at, "a global's name is not UTF-8")),
            _ if line.len() == MAX_NAME => return Err(malformed(at, "a global's name is longer than 256 bytes")),
            byte => line.push(byte),
        }
    }
}
