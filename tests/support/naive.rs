//! Straightforward scalar quantizers, one value after the other: the yardstick of the benches and the slow, obvious
//! reference that the encoders are held equal to. f32 in, f32 scales, the layout's bytes out.
#![expect(clippy::panic, clippy::needless_range_loop, reason = "as plain as can be")]

/// A quantizer: values of a `[rows, columns]` matrix to the bytes of each component.
pub(crate) type Naive = fn(&[f32], usize) -> Vec<Vec<u8>>;

/// By the names of the benches.
pub(crate) fn by_name(name: &str) -> Naive {
    match name {
        "int8" => int8,
        "int8 grok" => int8_grok,
        "int4 g128" => int4,
        "fp8_e4m3" => fp8_e4m3,
        "fp8_e4m3 block" => fp8_block,
        "fp8_e5m2" => fp8_e5m2,
        "nf4" => nf4,
        "mxfp4" => mxfp4,
        "nvfp4" => nvfp4,
        "q8_0" => q8_0,
        "q4_0" => q4_0,
        "q4_1" => q4_1,
        "q4_k" => q4_k,
        "q6_k" => q6_k,
        _ => panic!("no naive {name}"),
    }
}

fn absmax<'a>(x: impl IntoIterator<Item = &'a f32>) -> f32 {
    let mut largest = 0.0_f32;
    for value in x {
        largest = largest.max(value.abs());
    }
    largest
}

fn or_epsilon(scale: f32) -> f32 {
    if scale == 0.0 { f32::EPSILON } else { scale }
}

fn bytes(scales: &[f32]) -> Vec<u8> {
    scales.iter().flat_map(|scale| scale.to_le_bytes()).collect()
}

fn int8(x: &[f32], columns: usize) -> Vec<Vec<u8>> {
    let (mut codes, mut scales) = (Vec::new(), Vec::new());
    for row in x.chunks(columns) {
        let scale = or_epsilon(absmax(row) / 127.5);
        scales.push(scale);
        for value in row {
            codes.push((value / scale).clamp(-128.0, 127.0).round_ties_even() as i8 as u8);
        }
    }
    vec![codes, bytes(&scales)]
}

fn int8_grok(x: &[f32], columns: usize) -> Vec<Vec<u8>> {
    let mut scales = vec![0.0_f32; columns];
    for row in x.chunks(columns) {
        for (scale, value) in scales.iter_mut().zip(row) {
            *scale = scale.max(value.abs());
        }
    }
    for scale in &mut scales {
        *scale /= 127.0;
    }
    let mut codes = Vec::new();
    for row in x.chunks(columns) {
        for (value, scale) in row.iter().zip(&scales) {
            codes.push((value / scale).clamp(-127.0, 127.0).round_ties_even() as i8 as u8);
        }
    }
    vec![codes, bytes(&scales)]
}

fn int4(x: &[f32], columns: usize) -> Vec<Vec<u8>> {
    let (mut packed, mut scales) = (Vec::new(), Vec::new());
    for row in x.chunks(columns) {
        let mut codes = Vec::new();
        for group in row.chunks(128) {
            let scale = or_epsilon(absmax(group) / 7.5);
            scales.push(scale);
            for value in group {
                codes.push((value / scale).clamp(-8.0, 7.0).round_ties_even() as i32 + 8);
            }
        }
        for word in codes.chunks(8) {
            let mut bits = 0_u32;
            for (i, code) in word.iter().enumerate() {
                bits |= (*code as u32) << (4 * i);
            }
            packed.extend(bits.to_le_bytes());
        }
    }
    let shape = [(x.len() / columns) as u64, columns as u64];
    vec![packed, bytes(&scales), shape.iter().flat_map(|size| size.to_le_bytes()).collect()]
}

/// Rounds to a small float: the spacing of its exponent, or of its smallest one.
fn small_float(value: f32, mantissa: i32, bias: i32, largest: f32) -> u8 {
    let magnitude = value.abs().min(largest);
    let exponent = if magnitude > 0.0 { (magnitude.to_bits() >> 23) as i32 - 127 } else { -127 };
    let exponent = exponent.max(1 - bias);
    let steps = (magnitude / 2_f32.powi(exponent - mantissa)).round_ties_even() as i32;
    // A subnormal has no implied one; rounding up to the next exponent carries by itself.
    let code = ((exponent + bias - 1) << mantissa) + steps;
    code as u8 | if value.is_sign_negative() { 0x80 } else { 0 }
}

fn fp8_rows(x: &[f32], columns: usize, mantissa: i32, bias: i32, largest: f32) -> Vec<Vec<u8>> {
    let (mut codes, mut scales) = (Vec::new(), Vec::new());
    for row in x.chunks(columns) {
        let scale = or_epsilon(absmax(row) / largest);
        scales.push(scale);
        for value in row {
            codes.push(small_float(value / scale, mantissa, bias, largest));
        }
    }
    vec![codes, bytes(&scales)]
}

fn fp8_e4m3(x: &[f32], columns: usize) -> Vec<Vec<u8>> {
    fp8_rows(x, columns, 3, 7, 448.0)
}

fn fp8_e5m2(x: &[f32], columns: usize) -> Vec<Vec<u8>> {
    fp8_rows(x, columns, 2, 15, 57344.0)
}

fn fp8_block(x: &[f32], columns: usize) -> Vec<Vec<u8>> {
    let rows = x.len() / columns;
    let across = columns.div_ceil(128);
    let mut scales = vec![0.0_f32; rows.div_ceil(128) * across];
    for row in 0..rows {
        for column in 0..columns {
            let scale = &mut scales[row / 128 * across + column / 128];
            *scale = scale.max(x[row * columns + column].abs());
        }
    }
    for scale in &mut scales {
        *scale = or_epsilon(*scale / 448.0);
    }
    let mut codes = Vec::new();
    for row in 0..rows {
        for column in 0..columns {
            let scale = scales[row / 128 * across + column / 128];
            codes.push(small_float(x[row * columns + column] / scale, 3, 7, 448.0));
        }
    }
    vec![codes, bytes(&scales)]
}

const NF4: [f32; 16] = [
    -1.0,
    -0.696_192_8,
    -0.525_073_05,
    -0.394_917_5,
    -0.284_441_38,
    -0.184_773_43,
    -0.091_050_036,
    0.0,
    0.079_580_3,
    0.160_930_2,
    0.246_112_3,
    0.337_915_24,
    0.440_709_83,
    0.562_617,
    0.722_956_84,
    1.0,
];

fn nf4(x: &[f32], _: usize) -> Vec<Vec<u8>> {
    let (mut codes, mut scales) = (Vec::new(), Vec::new());
    for block in x.chunks(64) {
        let largest = if block.len() == 64 { absmax(block) } else { absmax(block).max(1e-38) };
        scales.push(largest);
        for value in block {
            let divisor = largest.max(1e-38);
            let scaled = if block.len() == 64 { value * (1.0 / divisor) } else { value / divisor };
            let mut code = 0;
            while code < 15 && scaled > (NF4[code] + NF4[code + 1]) / 2.0 {
                code += 1;
            }
            codes.push(code as u8);
        }
    }
    if codes.len() % 2 == 1 {
        codes.push(7);
    }
    let packed = codes.chunks(2).map(|pair| pair[0] << 4 | pair[1]).collect();
    vec![packed, bytes(&scales)]
}

/// Two codes of E2M1 in a byte, the first in the low nibble.
fn e2m1_pairs(group: &[f32], scale: f32, packed: &mut Vec<u8>) {
    let code = |value: f32| {
        let scaled = value / scale;
        let code = small_float(scaled, 1, 1, 6.0) & 7;
        if scaled < 0.0 { code | 8 } else { code }
    };
    for pair in group.chunks(2) {
        packed.push(code(pair[0]) | code(pair[1]) << 4);
    }
}

fn mxfp4(x: &[f32], _: usize) -> Vec<Vec<u8>> {
    let (mut packed, mut scales) = (Vec::new(), Vec::new());
    for group in x.chunks(32) {
        // A largest value of 1.75 x 2^k or more counts as 2^(k+1).
        let bumped = f32::from_bits(absmax(group).to_bits() + (1 << 21));
        let exponent = (bumped.to_bits() >> 23) as i32 - 127 - 2;
        let exponent = exponent.max(-127);
        scales.push((exponent + 127) as u8);
        e2m1_pairs(group, 2_f32.powi(exponent), &mut packed);
    }
    vec![packed, scales]
}

fn nvfp4(x: &[f32], _: usize) -> Vec<Vec<u8>> {
    let global = 2688.0 * (1.0 / absmax(x).max(f32::MIN_POSITIVE));
    let global = if global.is_finite() { global } else { 1.0 };
    let (mut packed, mut scales) = (Vec::new(), Vec::new());
    for group in x.chunks(16) {
        let code = match small_float(global * (absmax(group) / 6.0), 3, 7, 448.0) {
            0 => 0x20,
            code => code,
        };
        scales.push(code);
        let exponent = i32::from(code >> 3);
        let scale = if exponent == 0 {
            f32::from(code) * 2_f32.powi(-9)
        } else {
            (1.0 + f32::from(code & 7) / 8.0) * 2_f32.powi(exponent - 7)
        };
        e2m1_pairs(group, scale / global, &mut packed);
    }
    vec![packed, scales, global.to_le_bytes().to_vec()]
}

fn half(value: f32) -> [u8; 2] {
    half::f16::from_f32(value).to_le_bytes()
}

fn nibbles(codes: &[u8], out: &mut Vec<u8>) {
    for i in 0..16 {
        out.push(codes[i] | codes[i + 16] << 4);
    }
}

fn q8_0(x: &[f32], _: usize) -> Vec<Vec<u8>> {
    let mut out = Vec::new();
    for block in x.chunks(32) {
        let d = absmax(block) / 127.0;
        let inverse = if d != 0.0 { 1.0 / d } else { 0.0 };
        out.extend(half(d));
        for value in block {
            out.push((value * inverse).round() as i8 as u8);
        }
    }
    vec![out]
}

fn q4_0(x: &[f32], _: usize) -> Vec<Vec<u8>> {
    let mut out = Vec::new();
    for block in x.chunks(32) {
        let mut extreme = 0.0_f32;
        for value in block {
            if value.abs() > extreme.abs() {
                extreme = *value;
            }
        }
        let d = extreme / -8.0;
        let inverse = if d != 0.0 { 1.0 / d } else { 0.0 };
        out.extend(half(d));
        let codes: Vec<u8> = block.iter().map(|value| ((value * inverse + 8.5) as u8).min(15)).collect();
        nibbles(&codes, &mut out);
    }
    vec![out]
}

fn q4_1(x: &[f32], _: usize) -> Vec<Vec<u8>> {
    let mut out = Vec::new();
    for block in x.chunks(32) {
        let (mut least, mut most) = (f32::MAX, -f32::MAX);
        for value in block {
            if *value < least {
                least = *value;
            }
            if *value > most {
                most = *value;
            }
        }
        let d = (most - least) / 15.0;
        let inverse = if d != 0.0 { 1.0 / d } else { 0.0 };
        out.extend(half(d));
        out.extend(half(least));
        let codes: Vec<u8> = block.iter().map(|value| (((value - least) * inverse + 0.5) as u8).min(15)).collect();
        nibbles(&codes, &mut out);
    }
    vec![out]
}

fn nearest(value: f32) -> i32 {
    value.round_ties_even() as i32
}

/// Scale and minimum of 32 values, and the codes that the search ends with.
fn search_with_minimum(x: &[f32], codes: &mut [u8]) -> (f32, f32) {
    let rms = (x.iter().fold(0.0, |sum, value| sum + value * value) / 32.0).sqrt();
    let weights: Vec<f32> = x.iter().map(|value| rms + value.abs()).collect();
    let (mut min, mut max) = (x[0], x[0]);
    let (mut sum_w, mut sum_x) = (weights[0], weights[0] * x[0]);
    for i in 1..32 {
        if x[i] < min {
            min = x[i];
        }
        if x[i] > max {
            max = x[i];
        }
        sum_w += weights[i];
        sum_x += weights[i] * x[i];
    }
    min = min.min(0.0);
    if max == min {
        codes.fill(0);
        return (0.0, -min);
    }
    let mut inverse = 15.0 / (max - min);
    let mut scale = 1.0 / inverse;
    let mut best = 0.0;
    for i in 0..32 {
        codes[i] = nearest(inverse * (x[i] - min)).clamp(0, 15) as u8;
        let difference = scale * f32::from(codes[i]) + min - x[i];
        best += weights[i] * (difference * difference);
    }
    let mut tried = [0_u8; 32];
    for step in 0..=20 {
        inverse = (-1.0 + 0.1 * step as f32 + 15.0) / (max - min);
        let (mut sum_l, mut sum_l2, mut sum_xl) = (0.0, 0.0, 0.0);
        for i in 0..32 {
            tried[i] = nearest(inverse * (x[i] - min)).clamp(0, 15) as u8;
            let code = f32::from(tried[i]);
            sum_l += weights[i] * code;
            sum_l2 += weights[i] * code * code;
            sum_xl += weights[i] * code * x[i];
        }
        let determinant = sum_w * sum_l2 - sum_l * sum_l;
        if determinant <= 0.0 {
            continue;
        }
        let mut this_scale = (sum_w * sum_xl - sum_x * sum_l) / determinant;
        let mut this_min = (sum_l2 * sum_x - sum_l * sum_xl) / determinant;
        if this_min > 0.0 {
            this_min = 0.0;
            this_scale = sum_xl / sum_l2;
        }
        let mut error = 0.0;
        for i in 0..32 {
            let difference = this_scale * f32::from(tried[i]) + this_min - x[i];
            error += weights[i] * (difference * difference);
        }
        if error < best {
            codes.copy_from_slice(&tried);
            (best, scale, min) = (error, this_scale, this_min);
        }
    }
    (scale, -min)
}

fn q4_k(x: &[f32], _: usize) -> Vec<Vec<u8>> {
    let mut out = Vec::new();
    for block in x.chunks(256) {
        let mut codes = [0_u8; 256];
        let (mut scales, mut mins) = ([0.0_f32; 8], [0.0_f32; 8]);
        for sub in 0..8 {
            let range = 32 * sub..32 * sub + 32;
            (scales[sub], mins[sub]) = search_with_minimum(&block[range.clone()], &mut codes[range]);
        }
        let (max_scale, max_min) =
            (scales.iter().fold(0.0_f32, |a, b| a.max(*b)), mins.iter().fold(0.0_f32, |a, b| a.max(*b)));
        let (d, dmin) = (half::f16::from_f32(max_scale / 63.0), half::f16::from_f32(max_min / 63.0));
        let six_bits = |value: f32, largest: f32| {
            if largest > 0.0 { nearest(63.0 / largest * value).min(63) as u8 } else { 0 }
        };
        let mut packed = [0_u8; 12];
        for sub in 0..8 {
            let (scale, min) = (six_bits(scales[sub], max_scale), six_bits(mins[sub], max_min));
            if sub < 4 {
                packed[sub] = scale;
                packed[sub + 4] = min;
            } else {
                packed[sub + 4] = scale & 15 | min << 4;
                packed[sub - 4] |= scale >> 4 << 6;
                packed[sub] |= min >> 4 << 6;
            }
            let (scale, min) = (d.to_f32() * f32::from(scale), dmin.to_f32() * f32::from(min));
            if scale != 0.0 {
                for i in 32 * sub..32 * sub + 32 {
                    codes[i] = nearest((block[i] + min) / scale).clamp(0, 15) as u8;
                }
            }
        }
        out.extend(d.to_le_bytes());
        out.extend(dmin.to_le_bytes());
        out.extend(packed);
        for pair in codes.chunks(64) {
            for i in 0..32 {
                out.push(pair[i] | pair[i + 32] << 4);
            }
        }
    }
    vec![out]
}

/// Scale of 16 values, and the codes that the search ends with.
fn search(x: &[f32], codes: &mut [u8]) -> f32 {
    let mut extreme = 0.0_f32;
    for value in x {
        if value.abs() > extreme.abs() {
            extreme = *value;
        }
    }
    if extreme.abs() < 1e-15 {
        codes.fill(0);
        return 0.0;
    }
    let sums = |inverse: f32| {
        let (mut sum_lx, mut sum_l2) = (0.0, 0.0);
        for value in x {
            let code = nearest(inverse * value).clamp(-32, 31) as f32;
            let weight = value * value;
            sum_lx += weight * value * code;
            sum_l2 += weight * code * code;
        }
        (sum_lx, sum_l2)
    };
    let keep = |inverse: f32, codes: &mut [u8]| {
        for (code, value) in codes.iter_mut().zip(x) {
            *code = (nearest(inverse * value).clamp(-32, 31) + 32) as u8;
        }
    };
    let inverse = -32.0 / extreme;
    keep(inverse, codes);
    let (sum_lx, sum_l2) = sums(inverse);
    let mut scale = if sum_l2 == 0.0 { 0.0 } else { sum_lx / sum_l2 };
    let mut best = scale * sum_lx;
    for step in (-9..=9).filter(|step| *step != 0) {
        let inverse = -(32.0 + 0.1 * step as f32) / extreme;
        let (sum_lx, sum_l2) = sums(inverse);
        if sum_l2 > 0.0 && sum_lx * sum_lx > best * sum_l2 {
            keep(inverse, codes);
            scale = sum_lx / sum_l2;
            best = scale * sum_lx;
        }
    }
    scale
}

fn q6_k(x: &[f32], _: usize) -> Vec<Vec<u8>> {
    let mut out = Vec::new();
    for block in x.chunks(256) {
        let mut codes = [0_u8; 256];
        let mut scales = [0.0_f32; 16];
        for sub in 0..16 {
            let range = 16 * sub..16 * sub + 16;
            scales[sub] = search(&block[range.clone()], &mut codes[range]);
        }
        let mut extreme = 0.0_f32;
        for scale in scales {
            if scale.abs() > extreme.abs() {
                extreme = scale;
            }
        }
        if extreme.abs() < 1e-15 {
            out.extend([0; 210]);
            continue;
        }
        let inverse = -128.0 / extreme;
        let d = half::f16::from_f32(1.0 / inverse);
        let stored = scales.map(|scale| nearest(inverse * scale).min(127) as i8);
        for sub in 0..16 {
            let scale = d.to_f32() * f32::from(stored[sub]);
            if scale != 0.0 {
                for i in 16 * sub..16 * sub + 16 {
                    codes[i] = (nearest(block[i] / scale).clamp(-32, 31) + 32) as u8;
                }
            }
        }
        let (mut low, mut high) = (Vec::new(), Vec::new());
        for part in codes.chunks(128) {
            for i in 0..32 {
                low.push(part[i] & 15 | part[i + 64] << 4);
            }
            for i in 0..32 {
                low.push(part[i + 32] & 15 | part[i + 96] << 4);
            }
            for i in 0..32 {
                high.push(part[i] >> 4 | part[i + 32] >> 4 << 2 | part[i + 64] >> 4 << 4 | part[i + 96] >> 4 << 6);
            }
        }
        out.extend(low);
        out.extend(high);
        out.extend(stored.map(|scale| scale as u8));
        out.extend(d.to_le_bytes());
    }
    vec![out]
}
