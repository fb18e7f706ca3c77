//! Headers read from storage that fails, answers piece by piece, or ends early: the finding, or the same inventory, and nothing else.

use std::io::{self, Cursor, ErrorKind, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

use flow_fabric::finding::{Severity, worst};
use flow_fabric::inventory::{Checkpoint, Container};

use super::support::lines;

/// What a read does in place of reading all it can.
#[derive(Debug, Clone, Copy)]
enum Fault {
    Error(ErrorKind),
    Short,
    End,
}

/// A file whose reads fail as `fault` says, by their number.
struct Faulty<'a> {
    file: Cursor<&'a [u8]>,
    fault: &'a dyn Fn(usize) -> Option<Fault>,
    reads: usize,
}

impl Read for Faulty<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.reads += 1;
        match (self.fault)(self.reads - 1) {
            Some(Fault::Error(kind)) => Err(kind.into()),
            Some(Fault::Short) => self.file.read(buffer.get_mut(..1).unwrap_or_default()),
            Some(Fault::End) => Ok(0),
            None => self.file.read(buffer),
        }
    }
}

impl Seek for Faulty<'_> {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        self.file.seek(to)
    }
}

/// Reads a file; tensors and findings as text, whether it was refused, and in how many reads.
fn read(bytes: &[u8], container: Container, fault: &dyn Fn(usize) -> Option<Fault>) -> (String, bool, usize) {
    let mut file = Faulty { file: Cursor::new(bytes), fault, reads: 0 };
    let (checkpoint, findings) = Checkpoint::from_reader(&mut file, bytes.len() as u64, "f", container);
    let said = format!("{:?}\n{:?}\n{}", checkpoint.tensors, checkpoint.contents, lines(&findings));
    (said, worst(&findings) == Some(Severity::Error), file.reads)
}

/// A file of each format that has a header.
fn files() -> Vec<(Container, PathBuf)> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let data = |name: &str| root.join("tests/data").join(name);
    vec![
        (Container::Safetensors, root.join("fuzz/seeds/safetensors_header/mixed")),
        (Container::Safetensors, root.join("fuzz/seeds/safetensors_header/bitsandbytes")),
        (Container::Gguf, root.join("fuzz/seeds/gguf_header/model")),
        (Container::Torch, data("convert/torch.pt")),
        (Container::Torch, data("convert/torch-legacy.pt")),
        (Container::Npz, data("convert/numpy.npz")),
        (Container::Npz, data("convert/numpy-compressed.npz")),
        (Container::Pickle, data("pickles/quantized.protocol4.pkl")),
        (Container::Pickle, data("pickles/jax.protocol5.pkl")),
    ]
}

#[test]
fn a_fault_at_any_read_of_a_header_is_a_finding_and_the_harmless_ones_change_nothing() {
    for (container, path) in files() {
        let bytes = std::fs::read(&path).unwrap();
        let name = path.display();
        let (right, _, reads) = read(&bytes, container, &|_| None);
        assert!(reads > 0, "{name}");
        for at in 0..reads {
            for kind in [ErrorKind::Other, ErrorKind::WouldBlock, ErrorKind::TimedOut] {
                let (said, refused, _) = read(&bytes, container, &|read| (read == at).then_some(Fault::Error(kind)));
                assert!(refused && said.contains("unreadable-file"), "{name}, {kind:?} at read {at}: {said}");
            }
            // What ends early is refused, unless that was the read that finds the end.
            let (said, refused, _) = read(&bytes, container, &|read| (read >= at).then_some(Fault::End));
            assert!(refused || said == right, "{name}, end at read {at}: {said}");
            for fault in [Fault::Error(ErrorKind::Interrupted), Fault::Short] {
                let (said, ..) = read(&bytes, container, &|read| (read == at).then_some(fault));
                assert_eq!(said, right, "{name}, {fault:?} at read {at}");
            }
        }
        let slow = |read| Some(if read % 3 == 0 { Fault::Error(ErrorKind::Interrupted) } else { Fault::Short });
        assert_eq!(read(&bytes, container, &slow).0, right, "{name}, byte by byte");
    }
}
