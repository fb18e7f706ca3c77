//! What verbs are given: policies, checkpoints, meshes, levels of findings.

use std::cell::RefCell;
use std::path::Path;

use clap::Args;

use super::{Stop, Ui};
use crate::finding::{Finding, code};
use crate::inventory::{Checkpoint, Inventory, OpenError};
use crate::mesh::Mesh;
use crate::policy::{LoadError, LoadOptions, MeshSizesError, Policy, Rejected};

/// How a policy is read.
#[derive(Debug, Clone, Copy, Args)]
pub(super) struct PolicyOptions {
    /// Let `extends` leave the policy's directory
    #[arg(long)]
    pub(super) allow_outside: bool,
}

impl PolicyOptions {
    /// Loads a policy; `-` is standard input.
    pub(super) fn load(self, path: &Path, ui: &mut Ui) -> Result<Policy, LoadError> {
        // The loader borrows the reader for as long as it follows `extends`.
        let (opened, stdin) = (RefCell::new(Vec::new()), RefCell::new(ui.stdin()));
        let read = |file: &Path| {
            if file == Path::new("-") {
                return std::io::read_to_string(&mut **stdin.borrow_mut());
            }
            opened.borrow_mut().push(file.to_owned());
            std::fs::read_to_string(file)
        };
        let loaded = Policy::load_with(path, LoadOptions { allow_outside: self.allow_outside, read: &read });
        opened.into_inner().iter().for_each(|file| ui.opened(file));
        loaded
    }

    /// Loads a policy for a verb that cannot go on without one.
    pub(super) fn require(self, path: &Path, ui: &mut Ui) -> Result<Policy, Stop> {
        self.load(path, ui).map_err(|error| unusable(error, ui))
    }

    /// The same for a policy whose texts are no files here.
    pub(super) fn require_with(
        self,
        path: &Path,
        read: &dyn Fn(&Path) -> std::io::Result<String>,
        ui: &mut Ui,
    ) -> Result<Policy, Stop> {
        let options = LoadOptions { allow_outside: self.allow_outside, read };
        Policy::load_with(path, options).map_err(|error| unusable(error, ui))
    }
}

fn unusable(error: LoadError, ui: &mut Ui) -> Stop {
    match error {
        LoadError::Unreadable { .. } => Stop::failed(error.to_string()),
        LoadError::Rejected(Rejected { findings, sources }) => match ui.report(&findings, &sources) {
            Ok(()) => Stop::Said,
            Err(stop) => stop,
        },
    }
}

/// `--mesh`.
#[derive(Debug, Clone, Default, Args)]
pub(super) struct MeshOption {
    /// Sizes of mesh axes, in place of the policy's: `data=1,model=16`
    #[arg(long, value_name = "AXIS=SIZE,..")]
    mesh: Option<String>,
}

impl MeshOption {
    /// Whether sizes are given at all.
    pub(super) const fn is_given(&self) -> bool {
        self.mesh.is_some()
    }

    /// The policy's mesh with the sizes that are given, or a mesh of its own where the policy declares none.
    pub(super) fn resolve(&self, policy: &Policy) -> Result<Option<Mesh>, Stop> {
        let Some(text) = &self.mesh else { return Ok(None) };
        let mut sizes = Vec::new();
        for part in text.split(',') {
            let parsed =
                part.split_once('=').and_then(|(name, size)| Some((name.trim(), size.trim().parse::<u64>().ok()?)));
            let Some((name, size)) = parsed else {
                return Err(Stop::failed(format!("`{part}` is not an axis and its size"))
                    .help("write `--mesh data=1,model=16`"));
            };
            sizes.push((name.to_owned(), size));
        }
        let help = |error: &MeshSizesError| error.help().map(str::to_owned);
        policy
            .mesh_with(&sizes)
            .map(Some)
            .map_err(|error| Stop::Failed { help: help(&error), message: error.to_string() })
    }
}

/// Opens a checkpoint; `-` is a list on standard input.
pub(super) fn open(path: &Path, ui: &mut Ui) -> Result<(Checkpoint, Vec<Finding>), Stop> {
    if path == Path::new("-") {
        return Checkpoint::from_list(ui.stdin(), "-")
            .map_err(|error| Stop::failed(format!("cannot read standard input: {error}")));
    }
    ui.opened(path);
    Checkpoint::open(path).map_err(|error: OpenError| Stop::failed(error.to_string()))
}

/// Opens a checkpoint and groups it as the policy says.
pub(super) fn inventory(policy: &Policy, path: &Path, ui: &mut Ui) -> Result<(Inventory, Vec<Finding>), Stop> {
    let (checkpoint, mut findings) = open(path, ui)?;
    let (inventory, grouped) = policy.group(&checkpoint);
    findings.extend(grouped);
    Ok((inventory, findings))
}

/// A finding for a checkpoint that `check` cannot open: it goes on with the others.
pub(super) fn unreadable(path: &Path, stop: &Stop) -> Finding {
    let message = match stop {
        Stop::Failed { message, .. } => message.clone(),
        _ => format!("cannot read `{}`", path.display()),
    };
    Finding::new(&code::UNREADABLE_FILE, message)
}
