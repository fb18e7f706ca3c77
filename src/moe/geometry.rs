//! A layer's tensors, found and measured.

use super::config::{FusedLayout, Orientation};
use super::evaluate::MoeError;
use super::layer::MoeLayer;
use super::weights::WeightSource;

/// Which tensors a layer has, and what they are to it. All shapes fit one another.
#[derive(Debug)]
pub(crate) struct Geometry {
    /// Width of the layer's input and output.
    pub(crate) hidden: usize,
    pub(crate) router: Matrix,
    pub(crate) router_bias: Option<Vector>,
    pub(crate) selection_bias: Option<Vector>,
    pub(crate) experts: Mlp,
    pub(crate) shared: Option<Mlp>,
}

/// The tensors of gated linear units: one per expert, or the shared one.
#[derive(Debug)]
pub(crate) struct Mlp {
    /// Width between the projections.
    pub(crate) inner: usize,
    pub(crate) first: First,
    pub(crate) down: Matrix,
    pub(crate) down_bias: Option<Vector>,
}

/// Gate and up, apart or fused.
#[derive(Debug)]
pub(crate) enum First {
    Apart { gate: Matrix, up: Matrix, gate_bias: Option<Vector>, up_bias: Option<Vector> },
    Fused { gate_up: Matrix, bias: Option<Vector>, layout: FusedLayout },
}

/// A matrix per expert, or one for all.
#[derive(Debug)]
pub(crate) struct Matrix {
    name: String,
    stacked: bool,
    pub(crate) inputs: usize,
    pub(crate) outputs: usize,
    /// Whether rows as stored are outputs.
    pub(crate) out_in: bool,
}

/// A vector per expert, or one for all.
#[derive(Debug)]
pub(crate) struct Vector {
    name: String,
    stacked: bool,
    pub(crate) length: usize,
}

/// The place that stands for an expert's number in a name.
const EXPERT: &str = "{expert}";

fn expand(name: &str, expert: usize) -> String {
    name.replace(EXPERT, &expert.to_string())
}

impl Geometry {
    /// Finds the tensors of a layer whose input is `hidden` wide.
    pub(crate) fn find(layer: &MoeLayer, source: &dyn WeightSource, hidden: usize) -> Result<Self, MoeError> {
        let tensors = &layer.tensors;
        let find = Finder { source, experts: layer.experts };
        let router_name = tensors.router.as_deref().unwrap_or_default();
        let router = find.matrix(router_name, false, Some(hidden), Some(layer.experts), layer.router_orientation)?;
        let experts = find.mlp(
            Names {
                gate: tensors.gate.as_deref(),
                up: tensors.up.as_deref(),
                gate_up: tensors.gate_up.as_deref(),
                down: tensors.down.as_deref(),
                gate_bias: tensors.gate_bias.as_deref(),
                up_bias: tensors.up_bias.as_deref(),
                gate_up_bias: tensors.gate_up_bias.as_deref(),
                down_bias: tensors.down_bias.as_deref(),
            },
            true,
            hidden,
            layer,
        )?;
        let shared = Names {
            gate: tensors.shared_gate.as_deref(),
            up: tensors.shared_up.as_deref(),
            down: tensors.shared_down.as_deref(),
            ..Names::default()
        };
        Ok(Self {
            hidden,
            router,
            router_bias: find.vector(tensors.router_bias.as_deref(), false, layer.experts)?,
            selection_bias: find.vector(tensors.selection_bias.as_deref(), false, layer.experts)?,
            experts,
            shared: layer.shared.then(|| find.mlp(shared, false, hidden, layer)).transpose()?,
        })
    }
}

#[derive(Default, Clone, Copy)]
struct Names<'a> {
    gate: Option<&'a str>,
    up: Option<&'a str>,
    gate_up: Option<&'a str>,
    down: Option<&'a str>,
    gate_bias: Option<&'a str>,
    up_bias: Option<&'a str>,
    gate_up_bias: Option<&'a str>,
    down_bias: Option<&'a str>,
}

struct Finder<'a> {
    source: &'a dyn WeightSource,
    experts: usize,
}

impl Finder<'_> {
    fn mlp(&self, names: Names<'_>, each: bool, hidden: usize, layer: &MoeLayer) -> Result<Mlp, MoeError> {
        let orientation = layer.orientation;
        let (inner, first) = if let Some(name) = names.gate_up {
            let gate_up = self.matrix(name, each, Some(hidden), None, orientation)?;
            if !gate_up.outputs.is_multiple_of(2) {
                return Err(MoeError::Shape {
                    name: name.to_owned(),
                    shape: self.source.shape(&expand(name, 0)).unwrap_or_default(),
                    wanted: "an even number of outputs, gate and up".to_owned(),
                });
            }
            let bias = self.vector(names.gate_up_bias, each, gate_up.outputs)?;
            (gate_up.outputs / 2, First::Fused { gate_up, bias, layout: layer.fused_layout })
        } else {
            let gate = self.matrix(names.gate.unwrap_or_default(), each, Some(hidden), None, orientation)?;
            let inner = gate.outputs;
            let up = self.matrix(names.up.unwrap_or_default(), each, Some(hidden), Some(inner), orientation)?;
            let gate_bias = self.vector(names.gate_bias, each, inner)?;
            let up_bias = self.vector(names.up_bias, each, inner)?;
            (inner, First::Apart { gate, up, gate_bias, up_bias })
        };
        let down = self.matrix(names.down.unwrap_or_default(), each, Some(inner), Some(hidden), orientation)?;
        Ok(Mlp { inner, first, down, down_bias: self.vector(names.down_bias, each, hidden)? })
    }

    /// Finds a matrix, of which the inputs and perhaps the outputs are known.
    fn matrix(
        &self,
        name: &str,
        each: bool,
        inputs: Option<usize>,
        outputs: Option<usize>,
        orientation: Orientation,
    ) -> Result<Matrix, MoeError> {
        let size = |size: Option<usize>, what: &str| size.map_or(what.to_owned(), |size| size.to_string());
        let (stacked, shape) = self.shape_of(name, each, |inner| match orientation {
            Orientation::OutIn => format!("[{inner}{}, {}]", size(outputs, "out"), size(inputs, "in")),
            _ => format!("[{inner}{}, {}]", size(inputs, "in"), size(outputs, "out")),
        })?;
        let fits = |wanted: Option<usize>, found: usize| wanted.is_none_or(|wanted| wanted == found);
        let [rows, columns] = shape[..] else {
            return Err(self.misfit(name, "a matrix per expert".to_owned()));
        };
        let in_out = orientation != Orientation::OutIn && fits(inputs, rows) && fits(outputs, columns);
        let out_in = orientation != Orientation::InOut && fits(inputs, columns) && fits(outputs, rows);
        match (in_out, out_in) {
            (true, true) => Err(MoeError::Orientation { name: name.to_owned(), rows, columns }),
            (false, false) => {
                let wanted = format!("{} inputs and {} outputs", size(inputs, "some"), size(outputs, "some"));
                Err(self.misfit(name, wanted))
            }
            (true, false) => Ok(Matrix { name: name.to_owned(), stacked, inputs: rows, outputs: columns, out_in }),
            (false, true) => Ok(Matrix { name: name.to_owned(), stacked, inputs: columns, outputs: rows, out_in }),
        }
    }

    fn vector(&self, name: Option<&str>, each: bool, length: usize) -> Result<Option<Vector>, MoeError> {
        let Some(name) = name else { return Ok(None) };
        let (stacked, shape) = self.shape_of(name, each, |inner| format!("[{inner}{length}]"))?;
        if shape == [length] {
            Ok(Some(Vector { name: name.to_owned(), stacked, length }))
        } else {
            Err(self.misfit(name, format!("{length} values per expert")))
        }
    }

    /// Whether a tensor holds all experts, and the shape of one expert's part.
    fn shape_of(
        &self,
        name: &str,
        each: bool,
        wanted: impl Fn(&str) -> String,
    ) -> Result<(bool, Vec<usize>), MoeError> {
        let missing = |name: String| MoeError::Missing { name };
        if each && name.contains(EXPERT) {
            let first = expand(name, 0);
            let shape = self.source.shape(&first).ok_or(missing(first))?;
            for expert in 1..self.experts {
                let other = expand(name, expert);
                match self.source.shape(&other) {
                    None => return Err(missing(other)),
                    Some(other_shape) if other_shape != shape => {
                        let wanted = format!("{shape:?}, as expert 0 has");
                        return Err(MoeError::Shape { name: other, shape: other_shape, wanted });
                    }
                    Some(_) => {}
                }
            }
            return Ok((false, shape));
        }
        let shape = self.source.shape(name).ok_or_else(|| missing(name.to_owned()))?;
        match shape.split_first() {
            Some((&experts, rest)) if each && experts == self.experts => Ok((true, rest.to_vec())),
            _ if !each => Ok((false, shape)),
            _ => {
                let wanted = wanted(&format!("{}, ", self.experts));
                Err(MoeError::Shape { name: name.to_owned(), shape, wanted })
            }
        }
    }

    fn misfit(&self, name: &str, wanted: String) -> MoeError {
        let name = expand(name, 0);
        MoeError::Shape { shape: self.source.shape(&name).unwrap_or_default(), name, wanted }
    }
}

impl Matrix {
    #[cfg(test)]
    pub(crate) fn stacked(name: &str, inputs: usize, outputs: usize, out_in: bool) -> Self {
        Self { name: name.to_owned(), stacked: true, inputs, outputs, out_in }
    }

    /// The tensor that holds an expert's part, and the part's first element.
    pub(crate) fn place(&self, expert: usize) -> (String, usize) {
        let start = if self.stacked { expert * self.inputs * self.outputs } else { 0 };
        (expand(&self.name, expert), start)
    }
}

impl Vector {
    /// An expert's values.
    pub(crate) fn read(&self, source: &dyn WeightSource, expert: usize) -> Result<Vec<f32>, MoeError> {
        let mut values = vec![0.0; self.length];
        let start = if self.stacked { expert * self.length } else { 0 };
        source.read(&expand(&self.name, expert), start, &mut values)?;
        Ok(values)
    }
}
