//! The files of a model that are not its weights.

use std::fs;
use std::io;
use std::path::Path;

use super::{OutputError, failpoint};

/// Endings of files that hold weights, or say where weights are.
const WEIGHTS: [&str; 14] = [
    ".safetensors",
    ".index.json",
    ".manifest.json",
    ".gguf",
    ".bin",
    ".pt",
    ".pth",
    ".ckpt",
    ".npz",
    ".onnx",
    ".h5",
    ".msgpack",
    ".ot",
    ".partial",
];
/// Config, tokenizer and chat template are far smaller; what is larger is data.
const LARGEST: u64 = 256 << 20;

/// Copies what a model has beside its weights (config, tokenizer, licence) from one directory to another, and returns the
/// names, sorted. Hidden files, directories, weights, indexes and manifests of weights stay; files that are in the new
/// directory already win.
///
/// # Errors
/// [`OutputError::Io`].
pub fn carry(from: &Path, to: &Path) -> Result<Vec<String>, OutputError> {
    let mut names = Vec::new();
    for entry in fs::read_dir(from).map_err(OutputError::io("read", from))? {
        let entry = entry.map_err(OutputError::io("read", from))?;
        let Ok(name) = entry.file_name().into_string() else { continue };
        // Links are followed: the Hugging Face cache is made of them.
        let small = fs::metadata(entry.path()).is_ok_and(|found| found.is_file() && found.len() <= LARGEST);
        if small && goes_along(&name) && !to.join(&name).exists() {
            names.push(name);
        }
    }
    names.sort_unstable();
    for name in &names {
        let copied = failpoint::hit("carry").and_then(|()| copy(&from.join(name), &to.join(name)));
        copied.map_err(OutputError::io("write", &to.join(name)))?;
    }
    Ok(names)
}

fn goes_along(name: &str) -> bool {
    let lower = name.to_ascii_lowercase();
    !name.starts_with('.')
        && !WEIGHTS.iter().any(|ending| lower.ends_with(ending))
        && crate::inventory::pickled_array_number(name).is_none()
        && lower != "flow-fabric.manifest.json"
}

/// Content only: permissions, like those of everything else that is written, are the user's.
fn copy(from: &Path, to: &Path) -> io::Result<()> {
    io::copy(&mut fs::File::open(from)?, &mut fs::File::create_new(to)?).map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn config_and_tokenizer_go_along_and_weights_stay() {
        let (from, to) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let along = ["LICENSE", "config.json", "merges.txt", "tokenizer.json", "tokenizer.model"];
        let stay =
            ["model.safetensors", "model.safetensors.index.json", "pytorch_model.bin", "a.GGUF", "tensor00000_000"];
        for name in along.iter().chain(&stay).chain(&[".gitattributes", "model.safetensors.manifest.json"]) {
            fs::write(from.path().join(name), name).unwrap();
        }
        fs::create_dir(from.path().join("original")).unwrap();
        fs::write(to.path().join("config.json"), "new").unwrap();
        assert_eq!(
            carry(from.path(), to.path()).unwrap(),
            ["LICENSE", "merges.txt", "tokenizer.json", "tokenizer.model"]
        );
        assert_eq!(fs::read_to_string(to.path().join("config.json")).unwrap(), "new");
        assert_eq!(fs::read_to_string(to.path().join("LICENSE")).unwrap(), "LICENSE");
    }
}
