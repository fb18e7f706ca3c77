//! A pickle reader that executes nothing.
//!
//! Python's format is a program for a stack machine that may call anything. This reader knows the opcodes that weights
//! need, builds a fixed tree of plain values, and knows globals only as the names of a closed list: a name that is not
//! on it is a finding with its offset, and the file is refused. Nothing is called, nothing is imported, the bytes of
//! arrays are places in the file, and the memo holds positions, so that no input grows by being referred to.

mod global;
mod machine;
pub(super) mod numpy;
mod opcode;

pub(super) use global::Global;
pub(super) use machine::{Limits, read};

/// Position of a node in [`Pickle`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct NodeId(u32);

/// A value of the tree. Children are positions, so a tree may share nodes, and a hostile one may even contain itself;
/// whoever walks it counts steps.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Node {
    None,
    Bool(bool),
    Int(i64),
    /// An integer beyond 64 bits, as its little-endian bytes.
    Long(Box<[u8]>),
    Float,
    Text(Box<str>),
    /// Bytes that stay in the file.
    Bytes {
        offset: u64,
        length: u64,
    },
    Tuple(Box<[NodeId]>),
    List(Vec<NodeId>),
    Dict(Vec<(NodeId, NodeId)>),
    Global(Global),
    /// What a call would have made, and the state it would have been given.
    Object {
        callee: Global,
        arguments: NodeId,
        state: Option<NodeId>,
        /// Offset of the opcode.
        at: u64,
    },
    /// torch's reference to a storage.
    Persistent(NodeId),
}

/// A pickle, read.
#[derive(Debug)]
pub(super) struct Pickle {
    nodes: Vec<Node>,
    root: NodeId,
    /// Offset just past its last byte.
    pub(super) end: u64,
}

impl Pickle {
    pub(super) const fn root(&self) -> NodeId {
        self.root
    }

    /// How many values there are.
    pub(super) fn len(&self) -> usize {
        self.nodes.len()
    }

    pub(super) fn get(&self, id: NodeId) -> &Node {
        self.nodes.get(id.0 as usize).unwrap_or(&Node::None)
    }

    /// What each persistent id of the pickle is made of.
    pub(super) fn persistent(&self) -> impl Iterator<Item = NodeId> {
        self.nodes.iter().filter_map(|node| match *node {
            Node::Persistent(id) => Some(id),
            _ => None,
        })
    }

    pub(super) fn int(&self, id: NodeId) -> Option<i64> {
        match *self.get(id) {
            Node::Int(value) => Some(value),
            _ => None,
        }
    }

    pub(super) fn text(&self, id: NodeId) -> Option<&str> {
        match self.get(id) {
            Node::Text(text) => Some(text),
            _ => None,
        }
    }

    pub(super) fn tuple(&self, id: NodeId) -> Option<&[NodeId]> {
        match self.get(id) {
            Node::Tuple(items) => Some(items),
            _ => None,
        }
    }

    /// A tuple of dimensions, offsets or strides: integers that are not negative.
    pub(super) fn dimensions(&self, id: NodeId) -> Option<Vec<u64>> {
        self.tuple(id)?.iter().map(|&item| u64::try_from(self.int(item)?).ok()).collect()
    }
}
