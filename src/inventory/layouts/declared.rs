//! Layouts that a policy declares as `[stored.NAME]`.

use std::sync::Arc;

use super::{Found, Misfit, Role, StoredFormat, StoredTensor, Tensors, Verdict, quoted};
use crate::Dtype;

/// A layout in a policy's own words.
///
/// ```toml
/// [stored.gptq]
/// weight     = "{path}.qweight"          # the codes; `{path}` stands exactly once in each name
/// scales     = "{path}.scales"           # every name given must be stored for the layout to apply ...
/// zero_point = "{path}.qzeros"
/// optional   = ["{path}.g_idx"]          # ... but for these
/// path       = "{path}.weight"           # the logical path; "{path}" when absent
/// packed     = { dimension = -2, by = 8 } # eight codes per stored element along this dimension; absent: none
/// transposed = true                      # stored [in, out] where the logical weight is [out, in]
/// dtype      = "f16"                     # the logical dtype; absent: that of the scales, else of the weight
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeclaredLayout {
    /// The table's name; `format` conditions and plans quote it as `stored.NAME`.
    pub name: Arc<str>,
    /// Name of the tensor that holds the codes.
    pub weight: String,
    /// The companions that must be stored, with their roles.
    pub required: Vec<(Role, String)>,
    /// The companions that may be stored; their role is the part of the name after `{path}`.
    pub optional: Vec<String>,
    /// The logical path.
    pub path: String,
    /// From the stored to the logical shape.
    pub shape: DeclaredShape,
    /// The logical dtype, where declared.
    pub dtype: Option<Dtype>,
}

/// How a declared layout's logical shape follows from that of the codes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct DeclaredShape {
    /// The dimension that is packed, counted from the end (-1 is the last), and codes per stored element.
    pub packed: Option<(i32, u64)>,
    /// Whether the last two dimensions change places, after unpacking.
    pub transposed: bool,
}

/// What a name stands for in `DeclaredLayout`'s templates.
const PATH: &str = "{path}";

impl DeclaredLayout {
    /// Whether a template names a path exactly once, as every template of a layout must.
    #[must_use]
    pub fn is_template(text: &str) -> bool {
        text.matches(PATH).count() == 1
    }

    pub(super) fn recognise(&self, tensors: &Tensors<'_>, at: usize, weight: &StoredTensor) -> Verdict {
        let (prefix, suffix) = self.weight.split_once(PATH)?;
        let path = weight.name.strip_prefix(prefix)?.strip_suffix(suffix).filter(|path| !path.is_empty())?;
        let named = |template: &str| tensors.find(&template.replacen(PATH, path, 1));
        let mut components = vec![(Role::Weight, at)];
        let mut dtype = None;
        for (role, template) in &self.required {
            let (companion_at, companion) = named(template)?;
            if *role == Role::Scales {
                dtype = Some(companion.dtype);
            }
            components.push((role.clone(), companion_at));
        }
        for template in &self.optional {
            let suffix = template.rsplit(PATH).next().unwrap_or("").trim_start_matches(['.', '/', '_']);
            components.extend(named(template).map(|(at, _)| (Role::Other(suffix.into()), at)));
        }
        let Some(shape) = self.shape.of(&weight.shape) else {
            let message = format!(
                "{} of shape {:?} cannot be unpacked as `[stored.{}]` says",
                quoted(&weight.name),
                weight.shape,
                self.name
            );
            return Some(Err(Misfit::new(components.iter().map(|&(_, at)| at).collect(), message)));
        };
        Some(Ok(Found {
            path: self.path.replacen(PATH, path, 1),
            format: StoredFormat::Declared(format!("stored.{}", self.name).into()),
            dtype: self.dtype.or(dtype).unwrap_or(weight.dtype),
            shape,
            components,
        }))
    }
}

impl DeclaredShape {
    /// The logical shape; `None` where the stored one lacks a dimension or a product overflows.
    fn of(self, stored: &[u64]) -> Option<Vec<u64>> {
        let mut shape = stored.to_vec();
        if let Some((dimension, by)) = self.packed {
            let back = usize::try_from(dimension.checked_neg()?).ok()?;
            let slot = shape.len().checked_sub(back).and_then(|at| shape.get_mut(at))?;
            *slot = slot.checked_mul(by)?;
        }
        if self.transposed {
            let last = shape.len().checked_sub(2)?;
            shape.get_mut(last..)?.reverse();
        }
        shape.iter().try_fold(1_u64, |product, &dim| product.checked_mul(dim))?;
        Some(shape)
    }
}
