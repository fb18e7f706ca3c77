//! slot09-like tensors: the names and shapes of `examples/slot09.jsonl`, filled with numbers as trained ones are.

use std::collections::BTreeMap;
use std::path::Path;

use flow_fabric::inventory::Checkpoint;
use flow_fabric::output::{Layout, OutputDirectory, OutputError, OutputOptions, SafetensorsWriter, TensorSpec};

/// Writes a checkpoint of the tensors that a list names. The same bytes on every machine: only sums and products of f32.
pub(crate) fn write(list: &Path, folder: &Path) -> Result<(), Box<dyn std::error::Error>> {
    let (list, _) = Checkpoint::open(list)?;
    let specs: Vec<TensorSpec> = list
        .tensors
        .iter()
        .map(|tensor| TensorSpec { name: tensor.name.clone(), dtype: tensor.dtype, shape: tensor.shape.clone() })
        .collect();
    let layout = Layout::new(&specs, &BTreeMap::new(), None)?;
    let directory = OutputDirectory::create(folder, &OutputOptions { replace: true, ..OutputOptions::default() })?;
    let writer = SafetensorsWriter::create(directory, layout)?;
    for (index, spec) in specs.iter().enumerate() {
        let bytes: Vec<u8> = values(spec, index as u64).into_iter().flat_map(f32::to_le_bytes).collect();
        writer.write_at(index, 0, &bytes)?;
    }
    writer.publish().map_err(|error: OutputError| error.into())
}

/// Numbers for one tensor: vectors near one (norms) or small (biases); matrices `[in, out]` of variance `1 / in`, whose
/// detectors have a few channels and a few values far above the others.
fn values(spec: &TensorSpec, seed: u64) -> Vec<f32> {
    let mut random = Random(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) ^ 0x0509);
    let columns = spec.shape.last().copied().unwrap_or(1).max(1);
    let count = spec.shape.iter().product::<u64>();
    if spec.shape.len() < 2 {
        let center = if spec.name.ends_with("scale") { 1.0 } else { 0.0 };
        return (0..count).map(|_| center + 0.02 * random.normal()).collect();
    }
    let spread = 1.0 / ((count / columns) as f32).sqrt();
    let detector = spec.name.contains("/ids/");
    let channels: Vec<f32> = (0..columns)
        .map(|channel| if detector && channel % 61 == 7 { 6.0 } else { 1.0 + 0.1 * random.normal() })
        .collect();
    (0..count)
        .zip(channels.iter().cycle())
        .map(|(index, channel)| {
            let outlier = if detector && index % 4099 == 11 { 5.0 } else { 1.0 };
            spread * channel * outlier * random.normal()
        })
        .collect()
}

/// A small generator of equally spread bits.
struct Random(u64);

impl Random {
    /// Nearly normal: a sum of uniform numbers, of mean 0 and variance 1.
    fn normal(&mut self) -> f32 {
        // splitmix64; four numbers of 16 bits each.
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut bits = self.0;
        bits = (bits ^ (bits >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        bits = (bits ^ (bits >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        bits ^= bits >> 31;
        let sum: u64 = (0..4).map(|part| (bits >> (16 * part)) & 0xFFFF).sum();
        // Four uniform numbers of [0, 1) have variance 1/3 together.
        (sum as f32 / 65536.0 - 2.0) * 1.732_050_8
    }
}
