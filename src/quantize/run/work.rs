//! What a run has to do: every matrix that is encoded, decoded or copied, and the tensors that it is written as.

use std::collections::HashMap;
use std::ops::Range;
use std::sync::Arc;

use super::RunError;
use super::region::Region;
use crate::Dtype;
use crate::inventory::{Component, Inventory, StoredFormat, Weight};
use crate::output::TensorSpec;
use crate::plan::{Encoding, Plan};
use crate::quantize::{Arithmetic, Decoder, Encoder, Limits, Logical, Scheme};

/// Units in the order of the checkpoint, and what they are written as.
#[derive(Debug)]
pub(super) struct Work<'a> {
    pub(super) inventory: &'a Inventory,
    pub(super) units: Vec<Unit>,
    /// Every tensor of the output; each unit has a run of them.
    pub(super) outputs: Vec<TensorSpec>,
    /// Names that stand for a tensor under another name.
    pub(super) aliases: Vec<(String, String)>,
}

/// What is done at a time: a weight, or one matrix of a stack.
#[derive(Debug)]
pub(super) struct Unit {
    /// Index of the weight in the inventory.
    pub(super) weight: usize,
    /// What it is called in the output.
    pub(super) path: String,
    /// Index of the deciding quantization rule.
    pub(super) rule: Option<usize>,
    pub(super) task: Task,
    /// Its tensors in [`Work::outputs`].
    pub(super) outputs: Range<usize>,
    /// Bytes of the source that it takes.
    pub(super) stored_bytes: u64,
    /// Bytes of its tensors.
    pub(super) written_bytes: u64,
    /// Units that share a global scale have the same number.
    pub(super) family: Option<usize>,
}

#[derive(Debug)]
pub(super) enum Task {
    /// Stored tensors as they are.
    Copy,
    /// Values to codes.
    Encode(Box<Encode>),
    /// Values to numbers of a dtype.
    Cast(Box<Cast>),
    /// Values beside those of another checkpoint's weight.
    Compare(Box<Compare>),
}

#[derive(Debug)]
pub(super) struct Encode {
    pub(super) encoder: Encoder,
    /// Of what the encoder writes.
    pub(super) decoder: Decoder,
    /// The scheme's name.
    pub(super) scheme: Arc<str>,
    pub(super) settings: Scheme,
    pub(super) contracted: usize,
    pub(super) shape: Vec<u64>,
    pub(super) limits: Limits,
    pub(super) input: Input,
}

#[derive(Debug)]
pub(super) struct Cast {
    pub(super) dtype: Dtype,
    pub(super) decoder: Decoder,
    pub(super) shape: Vec<u64>,
    pub(super) input: Input,
}

#[derive(Debug)]
pub(super) struct Compare {
    /// Index of the other weight in its inventory.
    pub(super) other: usize,
    pub(super) decoder: Decoder,
    /// The other weight is stored as its own values.
    pub(super) plain: bool,
    pub(super) shape: Vec<u64>,
    pub(super) input: Input,
}

/// Where the values of a unit come from.
#[derive(Debug)]
pub(super) struct Input {
    /// Of the stored weight.
    pub(super) decoder: Decoder,
    /// Dtype of a weight that is stored as its own values.
    pub(super) plain: Option<Dtype>,
    pub(super) region: Region,
}

impl Input {
    pub(super) fn new(weight: &Weight, arithmetic: Arithmetic, region: Region) -> Result<Self, RunError> {
        let decoder = Decoder::new(weight, arithmetic)?;
        let plain = (weight.format == StoredFormat::Plain).then_some(weight.dtype);
        Ok(Self { decoder, plain, region })
    }
}

impl Unit {
    /// Values of the unit; for copies their bytes.
    pub(super) fn size(&self) -> u64 {
        match &self.task {
            Task::Copy => self.stored_bytes,
            Task::Encode(encode) => encode.encoder.elements() as u64,
            Task::Cast(cast) => cast.decoder.elements() as u64,
            Task::Compare(compare) => compare.decoder.elements() as u64,
        }
    }

    /// Where its values come from, unless it is copied.
    pub(super) fn input(&self) -> Option<&Input> {
        match &self.task {
            Task::Copy => None,
            Task::Encode(encode) => Some(&encode.input),
            Task::Cast(cast) => Some(&cast.input),
            Task::Compare(compare) => Some(&compare.input),
        }
    }

    /// The decoder of what is written, unless it is copied.
    pub(super) fn decoder(&self) -> Option<&Decoder> {
        match &self.task {
            Task::Copy => None,
            Task::Encode(encode) => Some(&encode.decoder),
            Task::Cast(cast) => Some(&cast.decoder),
            Task::Compare(compare) => Some(&compare.decoder),
        }
    }
}

impl<'a> Work<'a> {
    fn new(inventory: &'a Inventory) -> Self {
        Self { inventory, units: Vec::new(), outputs: Vec::new(), aliases: Vec::new() }
    }

    /// The work that a plan asks for. `wanted` picks the weights, by index.
    ///
    /// # Errors
    /// A weight that cannot be decoded or encoded as planned.
    pub(super) fn of_plan(plan: &'a Plan, wanted: &dyn Fn(usize) -> bool) -> Result<Self, RunError> {
        let mut work = Self::new(&plan.inventory);
        for (index, planned) in plan.weights().enumerate() {
            if work.is_alias(planned.weight) || !wanted(index) {
                continue;
            }
            let class = planned.class();
            match &class.encoding {
                Some(encoding) => {
                    let scheme = class.scheme.clone().unwrap_or_else(|| "".into());
                    work.encode(plan, index, planned.weight, (class.quantization, scheme), encoding)?;
                }
                None => work.copy(index, planned.weight, class.quantization),
            }
        }
        work.share_scales(&plan.families);
        Ok(work)
    }

    /// The work of turning every encoded weight into numbers: of `dtype`, or of the dtype that its format stands for.
    ///
    /// # Errors
    /// A weight that cannot be decoded.
    pub(super) fn of_dequantizing(inventory: &'a Inventory, dtype: Option<Dtype>) -> Result<Self, RunError> {
        let mut work = Self::new(inventory);
        for (index, weight) in inventory.weights.iter().enumerate() {
            if work.is_alias(weight) {
                continue;
            }
            if weight.format.is_encoded() {
                work.cast(index, weight, dtype.unwrap_or(weight.dtype))?;
            } else {
                work.copy(index, weight, None);
            }
        }
        Ok(work)
    }

    /// The work of comparing weights of the same path; `pairs` are their indices.
    ///
    /// # Errors
    /// A weight that cannot be decoded.
    pub(super) fn of_comparing(
        inventory: &'a Inventory,
        other: &Inventory,
        pairs: &[(usize, usize)],
    ) -> Result<Self, RunError> {
        let mut work = Self::new(inventory);
        for &(index, at) in pairs {
            let (Some(weight), Some(partner)) = (inventory.weights.get(index), other.weights.get(at)) else { continue };
            let compare = Compare {
                other: at,
                decoder: Decoder::new(partner, Arithmetic::F32)?,
                plain: !partner.format.is_encoded(),
                shape: weight.shape.clone(),
                input: Input::new(weight, Arithmetic::F32, Region::whole())?,
            };
            work.units.push(Unit {
                weight: index,
                path: weight.path.clone(),
                rule: None,
                task: Task::Compare(Box::new(compare)),
                outputs: 0..0,
                stored_bytes: weight.stored_bytes(),
                written_bytes: partner.stored_bytes(),
                family: None,
            });
        }
        Ok(work)
    }

    /// Bytes of the source that all units take.
    pub(super) fn bytes(&self) -> u64 {
        self.units.iter().map(|unit| unit.stored_bytes).sum()
    }

    fn is_alias(&mut self, weight: &Weight) -> bool {
        let Some(of) = &weight.alias_of else { return false };
        self.aliases.push((weight.path.clone(), of.clone()));
        true
    }

    /// Stored tensors as they are, under the weight's path where it was renamed.
    fn copy(&mut self, index: usize, weight: &Weight, rule: Option<usize>) {
        let specs = weight.components.iter().map(|component| TensorSpec {
            name: carried_name(weight, component),
            dtype: component.tensor.dtype,
            shape: component.tensor.shape.clone(),
        });
        let outputs = self.add(specs);
        let bytes = weight.stored_bytes();
        self.units.push(Unit {
            weight: index,
            path: weight.path.clone(),
            rule,
            task: Task::Copy,
            outputs,
            stored_bytes: bytes,
            written_bytes: bytes,
            family: None,
        });
    }

    fn cast(&mut self, index: usize, weight: &Weight, dtype: Dtype) -> Result<(), RunError> {
        let spec = TensorSpec { name: weight.path.clone(), dtype, shape: weight.shape.clone() };
        let written_bytes = dtype.bytes_for(weight.elements()).unwrap_or(u64::MAX);
        let outputs = self.add([spec]);
        let cast = Cast {
            dtype,
            decoder: Decoder::plain(dtype, weight.elements())?,
            shape: weight.shape.clone(),
            input: Input::new(weight, Arithmetic::Reference, Region::whole())?,
        };
        self.units.push(Unit {
            weight: index,
            path: weight.path.clone(),
            rule: None,
            task: Task::Cast(Box::new(cast)),
            outputs,
            stored_bytes: weight.stored_bytes(),
            written_bytes,
            family: None,
        });
        Ok(())
    }

    fn encode(
        &mut self,
        plan: &Plan,
        index: usize,
        weight: &Weight,
        (rule, scheme): (Option<usize>, Arc<str>),
        encoding: &Encoding,
    ) -> Result<(), RunError> {
        let Some(split) = &encoding.split else {
            let matrix = Matrix { path: weight.path.clone(), shape: weight.shape.clone(), region: Region::whole() };
            return self.matrix(index, weight, (rule, scheme), encoding, matrix, weight.stored_bytes());
        };
        let experts = plan.experts.get(split.experts);
        let matrices = split.count.saturating_mul(split.parts).max(1);
        for expert in 0..split.count {
            for part in 0..split.parts {
                let name = experts.and_then(|experts| {
                    let name = usize::try_from(part).ok().and_then(|part| experts.parts.get(part));
                    experts.path(&weight.path, expert, name.map(String::as_str))
                });
                let matrix = Matrix {
                    path: name.unwrap_or_else(|| weight.path.clone()),
                    shape: split.shape.to_vec(),
                    region: Region::of_split(&weight.shape, split, expert, part),
                };
                let bytes = weight.stored_bytes() / matrices;
                self.matrix(index, weight, (rule, scheme.clone()), encoding, matrix, bytes)?;
            }
        }
        Ok(())
    }

    fn matrix(
        &mut self,
        index: usize,
        weight: &Weight,
        (rule, scheme): (Option<usize>, Arc<str>),
        encoding: &Encoding,
        Matrix { path, shape, region }: Matrix,
        stored_bytes: u64,
    ) -> Result<(), RunError> {
        let logical = Logical {
            shape: &shape,
            contracted: encoding.contracted,
            dtype: weight.dtype,
            shard_groups: encoding.shard_groups,
        };
        let refused = |refusal| RunError::Refused { path: path.clone(), refusal };
        let encoder = Encoder::new(&encoding.scheme, encoding.layout, logical).map_err(refused)?;
        let specs = encoder.encoded().components.iter().map(|component| TensorSpec {
            name: component.name.of(&path),
            dtype: component.dtype,
            shape: component.shape.clone(),
        });
        let outputs = self.add(specs);
        let written_bytes = encoder.encoded().bytes();
        let arithmetic = encoding.scheme.arithmetic;
        let decoder = Decoder::of(&encoder, arithmetic);
        let input = Input::new(weight, arithmetic, region)?;
        let task = Task::Encode(Box::new(Encode {
            encoder,
            decoder,
            scheme,
            settings: encoding.scheme.clone(),
            contracted: encoding.contracted,
            shape,
            limits: encoding.limits,
            input,
        }));
        self.units.push(Unit { weight: index, path, rule, task, outputs, stored_bytes, written_bytes, family: None });
        Ok(())
    }

    fn add(&mut self, specs: impl IntoIterator<Item = TensorSpec>) -> Range<usize> {
        let start = self.outputs.len();
        self.outputs.extend(specs);
        start..self.outputs.len()
    }

    /// Numbers the families whose members share a global scale.
    fn share_scales(&mut self, families: &[Vec<usize>]) {
        let member: HashMap<usize, usize> = families
            .iter()
            .enumerate()
            .flat_map(|(family, weights)| weights.iter().map(move |&weight| (weight, family)))
            .collect();
        for unit in &mut self.units {
            let Task::Encode(encode) = &unit.task else { continue };
            if encode.encoder.shares_global() {
                unit.family = member.get(&unit.weight).copied();
            }
        }
    }
}

/// One matrix of a stack, or a whole weight.
struct Matrix {
    path: String,
    shape: Vec<u64>,
    region: Region,
}

/// The name of a stored tensor that is carried along: its own, with the weight's new path for the old one.
fn carried_name(weight: &Weight, component: &Component) -> String {
    let name = &component.tensor.name;
    if weight.path == weight.stored_path {
        return name.clone();
    }
    if let Some(suffix) = name.strip_prefix(&weight.stored_path) {
        return format!("{}{suffix}", weight.path);
    }
    // A companion beside the weight, such as `P.SCB` of `P.weight`.
    let parent = |path: &str| path.rfind(['.', '/']).map(|at| path.split_at(at).0.to_owned());
    match (parent(&weight.stored_path), parent(&weight.path)) {
        (Some(old), Some(new)) => match name.strip_prefix(&old) {
            Some(suffix) => format!("{new}{suffix}"),
            None => name.clone(),
        },
        _ => name.clone(),
    }
}
