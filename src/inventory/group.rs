//! Grouping: from stored tensors to logical weights.

use std::collections::HashSet;
use std::fmt;

use foldhash::fast::RandomState;

use super::layouts::{self, DeclaredLayout, Found, Tensors};
use super::trouble::{Report, Trouble, quoted};
use super::{Checkpoint, Component, Inventory, StoredFormat, StoredTensor, Weight, rename, tie};
use crate::finding::{Finding, code};

/// What a policy says about how stored tensors become weights. The default says nothing.
#[derive(Clone, Copy)]
pub struct Grouping<'a> {
    /// Stored names to leave out, before anything else.
    pub exclude: &'a dyn Fn(&str) -> bool,
    /// Layouts that the policy declares; they are tried before the known ones, in order.
    pub declared: &'a [DeclaredLayout],
    /// The new path of a logical path; `None` keeps it. [`Renames`](super::Renames) makes one from regexes.
    pub rename: &'a dyn Fn(&str) -> Option<String>,
    /// Sets of paths, as renamed, that are one weight; the first that is stored is the weight, the others its aliases.
    pub ties: &'a [Vec<String>],
}

impl Default for Grouping<'_> {
    fn default() -> Self {
        Self { exclude: &|_| false, declared: &[], rename: &|_| None, ties: &[] }
    }
}

impl fmt::Debug for Grouping<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Grouping").field("declared", &self.declared).field("ties", &self.ties).finish_non_exhaustive()
    }
}

impl Inventory {
    /// Groups stored tensors into logical weights: exclude, group by layout, rename, tie.
    ///
    /// A layout is recognised by names *and* shapes. Tensors that no layout takes are weights of their own; where their
    /// names say that they were meant for one, a finding says why they were not taken.
    ///
    /// ```
    /// use flow_fabric::inventory::{Checkpoint, Grouping, Inventory, StoredFormat};
    /// let list = r#"{"name":"layer/w/weight","dtype":"I8","shape":[6144,1024]}
    /// {"name":"layer/w/scales","dtype":"BF16","shape":[8,1024]}"#;
    /// let (checkpoint, _) = Checkpoint::from_list(list.as_bytes(), "-")?;
    /// let (inventory, findings) = Inventory::group(&checkpoint, &Grouping::default());
    /// let [weight] = &inventory.weights[..] else { panic!() };
    /// assert_eq!((weight.path.as_str(), &weight.shape[..]), ("layer/w", &[6144, 1024][..]));
    /// assert_eq!(weight.format, StoredFormat::Grok1);
    /// assert!(findings.is_empty());
    /// # Ok::<(), std::io::Error>(())
    /// ```
    #[must_use]
    pub fn group(checkpoint: &Checkpoint, grouping: &Grouping<'_>) -> (Self, Vec<Finding>) {
        let mut report = Report::new(&checkpoint.name);
        let kept: Vec<&StoredTensor> =
            checkpoint.tensors.iter().filter(|tensor| !(grouping.exclude)(&tensor.name)).collect();
        let excluded = checkpoint.tensors.len() - kept.len();
        let mut weights = group(&Tensors::new(&kept, checkpoint), grouping.declared, &mut report);
        rename::apply(&mut weights, grouping.rename, &mut report);
        tie::apply(&mut weights, grouping.ties, checkpoint.config.as_ref(), &mut report);
        let mut findings = Vec::new();
        report.finish(&mut findings);
        let inventory = Self {
            name: checkpoint.name.clone(),
            container: checkpoint.container,
            files: checkpoint.files.clone(),
            weights,
            excluded,
        };
        (inventory, findings)
    }
}

/// What became of a stored tensor.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Fate {
    /// A weight of its own so far.
    Free,
    /// A component of a group.
    Taken,
    /// A weight of its own for a reason that was reported.
    Explained,
}

fn group(tensors: &Tensors<'_>, declared: &[DeclaredLayout], report: &mut Report) -> Vec<Weight> {
    let mut fates = vec![Fate::Free; tensors.len()];
    // Each group at the place of its first stored tensor.
    let mut groups: Vec<Option<Found>> = std::iter::repeat_with(|| None).take(tensors.len()).collect();
    // Paths of groups that are no tensor's name; those that are cannot repeat.
    let mut paths = HashSet::with_hasher(RandomState::default());
    let mut involved = Vec::new();
    for at in 0..tensors.len() {
        if fates.get(at) != Some(&Fate::Free) {
            continue;
        }
        match layouts::recognise(tensors, declared, at) {
            None => {}
            Some(Err(misfit)) => {
                set(&mut fates, &misfit.involved, Fate::Explained);
                report.push(misfit.trouble);
            }
            Some(Ok(found)) => {
                involved.clear();
                involved.extend(found.components.iter().map(|&(_, at)| at));
                if let Some(trouble) = collision(tensors, &found, &involved, &fates, &paths) {
                    set(&mut fates, &involved, Fate::Explained);
                    report.push(trouble);
                    continue;
                }
                set(&mut fates, &involved, Fate::Taken);
                if tensors.find(&found.path).is_none() {
                    paths.insert(found.path.clone());
                }
                let first = involved.iter().copied().min().unwrap_or(at);
                if let Some(slot) = groups.get_mut(first) {
                    *slot = Some(found);
                }
            }
        }
    }
    let mut weights = Vec::with_capacity(tensors.len());
    for (at, (fate, found)) in fates.into_iter().zip(groups).enumerate() {
        let Some(tensor) = tensors.get(at) else { continue };
        if let Some(found) = found {
            weights.push(weight(tensors, found));
        } else if fate != Fate::Taken {
            if fate == Fate::Free
                && let Some(trouble) = layouts::orphan(tensor)
            {
                report.push(trouble);
            }
            weights.push(plain(tensor));
        }
    }
    weights
}

fn set(fates: &mut [Fate], involved: &[usize], fate: Fate) {
    for &at in involved {
        // A component of another group stays one.
        if let Some(slot) = fates.get_mut(at).filter(|slot| **slot != Fate::Taken) {
            *slot = fate;
        }
    }
}

/// Why a recognised group cannot be one: its path or one of its tensors belongs to another weight.
fn collision(
    tensors: &Tensors<'_>,
    found: &Found,
    involved: &[usize],
    fates: &[Fate],
    paths: &HashSet<String, RandomState>,
) -> Option<Trouble> {
    let by_name = tensors.find(&found.path).is_some_and(|(at, _)| !involved.contains(&at));
    let message = if by_name || paths.contains(&found.path) {
        format!("two weights would have the path {}", quoted(&found.path))
    } else {
        let &at = involved.iter().find(|&&at| fates.get(at) == Some(&Fate::Taken))?;
        let name = tensors.get(at).map_or("", |tensor| &tensor.name);
        format!("tensor {} is part of another weight than {}", quoted(name), quoted(&found.path))
    };
    Some(
        Trouble::anywhere(&code::GROUP_COLLISION, message)
            .help("its tensors stay weights of their own; `exclude` the ones that do not belong"),
    )
}

fn weight(tensors: &Tensors<'_>, found: Found) -> Weight {
    let components = found
        .components
        .into_iter()
        .filter_map(|(role, at)| Some(Component { role, tensor: tensors.get(at)?.clone() }))
        .collect();
    Weight {
        stored_path: found.path.clone(),
        path: found.path,
        format: found.format,
        dtype: found.dtype,
        shape: found.shape,
        components,
        alias_of: None,
    }
}

fn plain(tensor: &StoredTensor) -> Weight {
    let (format, dtype) = layouts::plain(tensor.dtype);
    debug_assert!(matches!(format, StoredFormat::Plain | StoredFormat::Ggml));
    Weight {
        path: tensor.name.clone(),
        stored_path: tensor.name.clone(),
        format,
        dtype,
        shape: tensor.shape.clone(),
        components: vec![Component { role: super::Role::Weight, tensor: tensor.clone() }],
        alias_of: None,
    }
}
