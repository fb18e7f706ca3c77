//! Grouping: logical weights are what they would be if nothing were quantized.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;

use flow_fabric::Dtype;
use flow_fabric::inventory::{
    Checkpoint, DeclaredLayout, DeclaredShape, Grouping, Inventory, ModelConfig, Renames, Role, StoredFormat,
    StoredTensor,
};
use serde_json::Value;

use super::support::{checkpoint, data, grouped, lines, paths_and_shapes, render, shipped};

#[test]
fn grok_1_arrays_are_the_leaves_of_its_own_tree() {
    let checkpoint = shipped("grok-1.jsonl");
    assert_eq!(checkpoint.tensors.len(), 1218);
    let (inventory, findings) = Inventory::group(&checkpoint, &Grouping::default());
    assert_eq!(lines(&findings), "");
    let oracle: Vec<(String, Vec<u64>)> = fs::read_to_string(data("grok-1.oracle.jsonl"))
        .unwrap()
        .lines()
        .map(|line| {
            let leaf: Value = serde_json::from_str(line).unwrap();
            (leaf["name"].as_str().unwrap().to_owned(), serde_json::from_value(leaf["shape"].clone()).unwrap())
        })
        .collect();
    assert_eq!(oracle.len(), 770);
    assert_eq!(paths_and_shapes(&inventory), oracle);
    let mut formats = BTreeMap::new();
    for weight in &inventory.weights {
        *formats.entry((weight.format.name().to_owned(), weight.dtype)).or_insert(0) += 1;
    }
    let expected = [(("grok-1".to_owned(), Dtype::Bf16), 448), (("plain".to_owned(), Dtype::F32), 322)];
    assert_eq!(formats, BTreeMap::from(expected));
}

/// Rewrites the matrices of Llama's list that a quantizer takes (all linear layers but the head) in a layout.
fn quantized_llama(layout: impl Fn(&mut String, &StoredTensor)) -> Checkpoint {
    let mut list = String::new();
    for tensor in shipped("llama-3-8b.jsonl").tensors {
        if tensor.name.ends_with("_proj.weight") {
            layout(&mut list, &tensor);
        } else {
            writeln!(list, "{} {} {:?}", tensor.name, tensor.dtype, tensor.shape).unwrap();
        }
    }
    checkpoint(&list)
}

fn two(shape: &[u64]) -> (u64, u64) {
    (shape[0], shape[1])
}

fn assert_same_weights(checkpoint: &Checkpoint, format: &StoredFormat) {
    let (plain, _) = Inventory::group(&shipped("llama-3-8b.jsonl"), &Grouping::default());
    let (inventory, findings) = Inventory::group(checkpoint, &Grouping::default());
    assert_eq!(lines(&findings), "");
    assert_eq!(paths_and_shapes(&inventory), paths_and_shapes(&plain));
    assert!(inventory.weights.iter().all(|weight| weight.dtype == Dtype::Bf16));
    assert_eq!(inventory.weights.iter().filter(|weight| weight.format == *format).count(), 32 * 7);
}

#[test]
fn quantized_layouts_of_a_model_have_the_weights_of_the_model() {
    // Companions come before the codes in some writers and after them in others.
    assert_same_weights(
        &quantized_llama(|list, tensor| {
            let (name, (out, inn)) = (&tensor.name, two(&tensor.shape));
            writeln!(list, "{name}_scale BF16 [{out}, 1]\n{name} I8 [{out}, {inn}]").unwrap();
        }),
        &StoredFormat::IntQuantized,
    );
    assert_same_weights(
        &quantized_llama(|list, tensor| {
            let (name, (out, inn)) = (&tensor.name, two(&tensor.shape));
            let (down, across) = (out.div_ceil(128), inn.div_ceil(128));
            writeln!(list, "{name} F8_E4M3 [{out}, {inn}]\n{name}_scale_inv F32 [{down}, {across}]").unwrap();
        }),
        &StoredFormat::Fp8Block,
    );
    assert_same_weights(
        &quantized_llama(|list, tensor| {
            let (name, (out, inn)) = (&tensor.name, two(&tensor.shape));
            writeln!(list, "{name}_packed U8 [{out}, {}]", inn / 2).unwrap();
            writeln!(list, "{name}_scale F8_E4M3 [{out}, {}]\n{name}_global_scale F32 [1]", inn / 16).unwrap();
        }),
        &StoredFormat::Nvfp4Packed,
    );
    let packed = |zero_points: bool| {
        quantized_llama(move |list, tensor| {
            let (name, (out, inn)) = (&tensor.name, two(&tensor.shape));
            writeln!(list, "{name}_packed I32 [{out}, {}]\n{name}_scale BF16 [{out}, {}]", inn / 8, inn / 128).unwrap();
            writeln!(list, "{name}_shape I64 [2]").unwrap();
            if zero_points {
                writeln!(list, "{name}_zero_point I32 [{}, {}]", out / 8, inn / 128).unwrap();
            }
        })
    };
    // The zero points tell the bits; without them the config must.
    assert_same_weights(&packed(true), &StoredFormat::PackQuantized { bits: 4 });
    let mut symmetric = packed(false);
    let (_, findings) = Inventory::group(&symmetric, &Grouping::default());
    assert!(findings.iter().all(|finding| finding.code.name == "unknown-packing"), "{}", lines(&findings));
    assert_eq!(findings.len(), 10);
    assert_eq!(findings[9].notes, ["214 more like these are not listed"]);
    symmetric.config = Some(
        ModelConfig::parse(
            r#"{"quantization_config": {"config_groups": {"group_0": {
                "targets": ["Linear"], "weights": {"num_bits": 4, "group_size": 128}}}}}"#,
        )
        .unwrap(),
    );
    assert_same_weights(&symmetric, &StoredFormat::PackQuantized { bits: 4 });
}

#[test]
fn each_layout_is_recognised_by_names_and_shapes() {
    let list = "
        a/w/weight I8 [8, 6144, 1024]
        a/w/scales BF16 [8, 8, 1024]
        ct.weight F8_E4M3 [300, 200]
        ct.weight_scale F32 [300, 1]
        ct.input_scale F32 [1]
        tensorwise.weight F8_E5M2 [300, 200]
        tensorwise.weight_scale BF16 []
        deepseek.weight F8_E4M3 [300, 200]
        deepseek.weight_scale_inv F32 [3, 2]
        experts.gate_up_proj F8_E4M3 [4, 256, 512]
        experts.gate_up_proj_scale_inv F32 [4, 2, 4]
        mx8.weight F8_E4M3 [300, 64]
        mx8.weight_scale U8 [300, 2]
        int.weight I8 [64, 256]
        int.weight_scale F16 [64, 2]
        int.weight_zero_point I8 [64, 2]
        nv.weight_packed U8 [64, 128]
        nv.weight_scale F8_E4M3 [64, 16]
        nv.weight_global_scale F32 [1]
        nv.input_global_scale F32 [1]
        opt.weight U8 [64, 128]
        opt.weight_scale F8_E4M3 [64, 16]
        opt.weight_scale_2 F32 []
        mx4.weight_packed U8 [64, 128]
        mx4.weight_scale F8_E8M0 [64, 8]
        oss.gate_up_proj_blocks U8 [4, 64, 3, 16]
        oss.gate_up_proj_scales U8 [4, 64, 3]
        oss.gate_up_proj_bias BF16 [4, 64]
        bnb.weight I8 [64, 32]
        bnb.SCB F32 [64]
        bnb.weight_format U8 []
        gguf q4_k [64, 256]
        rms_norm/scale F32 [6144]
        logit_scale F32 []";
    insta::assert_snapshot!(grouped(list, &Grouping::default()), @r"
    a/w grok-1 bf16 [8, 6144, 1024] <weight scales>
    ct.weight fp8-scaled f32 [300, 200] <weight scales input_scale>
    tensorwise.weight fp8-scaled bf16 [300, 200] <weight scales>
    deepseek.weight fp8-block bf16 [300, 200] <weight scales>
    experts.gate_up_proj fp8-block bf16 [4, 256, 512] <weight scales>
    mx8.weight mxfp8 bf16 [300, 64] <weight scales>
    int.weight int-quantized f16 [64, 256] <weight scales zero-point>
    nv.weight nvfp4-packed bf16 [64, 256] <weight scales global-scale input_global_scale>
    opt.weight nvfp4-modelopt bf16 [64, 256] <weight scales global-scale>
    mx4.weight mxfp4-packed bf16 [64, 256] <weight scales>
    oss.gate_up_proj mxfp4-blocks bf16 [4, 64, 96] <weight scales>
    oss.gate_up_proj_bias plain bf16 [4, 64] <weight>
    bnb.weight bnb-int8 f16 [64, 32] <weight scales weight_format>
    gguf ggml f32 [64, 256] <weight>
    rms_norm/scale plain f32 [6144] <weight>
    logit_scale plain f32 [] <weight>
    ");
}

#[test]
fn names_alone_do_not_make_a_layout() {
    let list = "
        a/w/weight I8 [6144, 1024]
        a/w/scales BF16 [5, 1024]
        b/weight I8 [6144, 1024]
        b/scales I32 [8, 1024]
        c.weight_scale_inv F32 [3, 2]
        d.weight F8_E4M3 [300, 200]
        d.weight_scale_inv F32 [4, 200, 3]
        e.weight BF16 [300, 200]
        e.weight_scale BF16 [300, 1]
        f_blocks U8 [4, 3, 15]
        f_scales U8 [4, 3]
        g.weight_packed U8 [64, 128]
        g.weight_scale F8_E4M3 [64, 16]
        h_scales U8 [7]
        i.weight.absmax F32 [7]
        j.weight U8 [7, 1]
        j.weight.quant_state.bitsandbytes__nf4 U8 [80]
        k.weight U8 [32, 1]
        k.weight.absmax F32 [1]
        k.weight.quant_map F32 [16]
        k.weight.quant_state.bitsandbytes__nf4 U8 [80]
        p F32 [4]
        p/weight I8 [8, 4]
        p/scales BF16 [1, 4]
        q_packed I32 [8, 13]
        q_scale F16 [9, 1]
        r.weight I8 [8, 4]
        r.SCB F32 [4]";
    insta::assert_snapshot!(grouped(list, &Grouping::default()), @r"
    a/w/weight plain i8 [6144, 1024] <weight>
    a/w/scales plain bf16 [5, 1024] <weight>
    b/weight plain i8 [6144, 1024] <weight>
    b/scales plain i32 [8, 1024] <weight>
    c.weight_scale_inv plain f32 [3, 2] <weight>
    d.weight plain f8_e4m3 [300, 200] <weight>
    d.weight_scale_inv plain f32 [4, 200, 3] <weight>
    e.weight plain bf16 [300, 200] <weight>
    e.weight_scale plain bf16 [300, 1] <weight>
    f_blocks plain u8 [4, 3, 15] <weight>
    f_scales plain u8 [4, 3] <weight>
    g.weight_packed plain u8 [64, 128] <weight>
    g.weight_scale plain f8_e4m3 [64, 16] <weight>
    h_scales plain u8 [7] <weight>
    i.weight.absmax plain f32 [7] <weight>
    j.weight plain u8 [7, 1] <weight>
    j.weight.quant_state.bitsandbytes__nf4 plain u8 [80] <weight>
    k.weight plain u8 [32, 1] <weight>
    k.weight.absmax plain f32 [1] <weight>
    k.weight.quant_map plain f32 [16] <weight>
    k.weight.quant_state.bitsandbytes__nf4 plain u8 [80] <weight>
    p plain f32 [4] <weight>
    p/weight plain i8 [8, 4] <weight>
    p/scales plain bf16 [1, 4] <weight>
    q_packed plain i32 [8, 13] <weight>
    q_scale plain f16 [9, 1] <weight>
    r.weight plain i8 [8, 4] <weight>
    r.SCB plain f32 [4] <weight>
    FF483 companion-mismatch: `a/w/scales` (bf16 [5, 1024]) does not fit `a/w/weight` (i8 [6144, 1024]): scales [.., G, N] in f32, bf16 or f16 were expected, G a divisor of K
    FF483 companion-mismatch: `b/scales` (i32 [8, 1024]) does not fit `b/weight` (i8 [6144, 1024]): scales [.., G, N] in f32, bf16 or f16 were expected, G a divisor of K
    FF483 companion-mismatch: `d.weight_scale_inv` (f32 [4, 200, 3]) does not fit `d.weight` (f8_e4m3 [300, 200]): one scale per tensor, row or block was expected
    FF483 companion-mismatch: `f_scales` (u8 [4, 3]) does not fit `f_blocks` (u8 [4, 3, 15]): blocks [.., G, 16] and u8 scales [.., G] were expected
    FF483 companion-mismatch: `g.weight_packed` has NVFP4 scales, but no `g.weight_global_scale` goes with it
    FF483 companion-mismatch: `j.weight` has no absmax or no quant_map beside it
    FF485 unknown-shape: the logical shape of `k.weight` is in the bytes of its quant_state
    FF481 group-collision: two weights would have the path `p`
    FF483 companion-mismatch: `q_scale` (f16 [9, 1]) does not fit `q_packed` (i32 [8, 13]): scales [.., N, G] were expected
    FF483 companion-mismatch: `r.SCB` (f32 [4]) does not fit `r.weight` (i8 [8, 4]): one f32 per row was expected
    FF482 orphan-companion: `c.weight_scale_inv` is named like a part of a quantized weight, but no `c.weight` goes with it
    FF482 orphan-companion: `e.weight_scale` is named like a part of a quantized weight, but no `e.weight` goes with it
    FF482 orphan-companion: `h_scales` is named like a part of a quantized weight, but no `h_blocks` goes with it
    FF482 orphan-companion: `i.weight.absmax` is named like a part of a quantized weight, but no `i.weight` goes with it
    ");
}

#[test]
fn a_bitsandbytes_weight_has_the_shape_of_its_quant_state() {
    let list = "
        w.weight U8 [48, 1]
        w.weight.absmax U8 [2]
        w.weight.nested_absmax F32 [1]
        w.weight.nested_quant_map F32 [256]
        w.weight.quant_map F32 [16]
        w.weight.quant_state.bitsandbytes__fp4 U8 [80]";
    let with = |state: &str| {
        let mut checkpoint = checkpoint(list);
        let name = "w.weight.quant_state.bitsandbytes__fp4".to_owned();
        checkpoint.contents.insert(name, state.as_bytes().into());
        render(&Inventory::group(&checkpoint, &Grouping::default()))
    };
    let good = r#"{"quant_type": "fp4", "blocksize": 64, "dtype": "bfloat16", "shape": [8, 12], "nested_offset": 0.1}"#;
    assert_eq!(
        with(good),
        "w.weight bnb-fp4 bf16 [8, 12] <weight scales quant_map nested_absmax nested_quant_map quant_state>"
    );
    for bad in [
        r#"{"blocksize": 64, "dtype": "bfloat16", "shape": [8, 13]}"#,
        r#"{"blocksize": 32, "dtype": "bfloat16", "shape": [8, 12]}"#,
        r#"{"blocksize": 0, "dtype": "bfloat16", "shape": [8, 12]}"#,
        r#"{"blocksize": 64, "dtype": "bfloat16", "shape": [4294967296, 4294967296, 96]}"#,
        r#"{"blocksize": 64, "dtype": "object", "shape": [8, 12]}"#,
        "\u{0}",
    ] {
        let rendered = with(bad);
        assert!(
            rendered
                .ends_with("FF483 companion-mismatch: the quant_state of `w.weight` does not describe its 48 bytes"),
            "{rendered}"
        );
    }
}

#[test]
fn declared_layouts_come_before_the_known_ones() {
    let gptq = DeclaredLayout {
        name: "gptq".into(),
        weight: "{path}.qweight".to_owned(),
        required: vec![(Role::Scales, "{path}.scales".to_owned()), (Role::ZeroPoint, "{path}.qzeros".to_owned())],
        optional: vec!["{path}.g_idx".to_owned()],
        path: "{path}.weight".to_owned(),
        shape: DeclaredShape { packed: Some((-2, 8)), transposed: true },
        dtype: None,
    };
    let int8 = DeclaredLayout {
        name: "ours".into(),
        weight: "{path}/weight".to_owned(),
        required: vec![(Role::Scales, "{path}/scales".to_owned())],
        optional: vec![],
        path: "{path}".to_owned(),
        shape: DeclaredShape::default(),
        dtype: Some(Dtype::F32),
    };
    let declared = [gptq, int8];
    let list = "
        l.0.qweight I32 [512, 1024]
        l.0.qzeros I32 [32, 128]
        l.0.scales F16 [32, 1024]
        l.0.g_idx I32 [4096]
        l.1.qweight I32 [512, 1024]
        l.1.scales F16 [32, 1024]
        l.2.qweight I32 [512]
        l.2.qzeros I32 [32, 128]
        l.2.scales F16 [32, 1024]
        p/weight I8 [6144, 1024]
        p/scales BF16 [8, 1024]";
    insta::assert_snapshot!(grouped(list, &Grouping { declared: &declared, ..Grouping::default() }), @r"
    l.0.weight stored.gptq f16 [1024, 4096] <weight scales zero-point g_idx>
    l.1.qweight plain i32 [512, 1024] <weight>
    l.1.scales plain f16 [32, 1024] <weight>
    l.2.qweight plain i32 [512] <weight>
    l.2.qzeros plain i32 [32, 128] <weight>
    l.2.scales plain f16 [32, 1024] <weight>
    p stored.ours f32 [6144, 1024] <weight scales>
    FF483 companion-mismatch: `l.2.qweight` of shape [512] cannot be unpacked as `[stored.gptq]` says
    ");
}

#[test]
fn excluding_comes_before_grouping_and_renaming_after_it() {
    let renames = Renames::new([(r"(.*)/w", "${1}/kernel"), (r"lost\..*", "same"), (r"to_a", "a")]).unwrap();
    let grouping = Grouping {
        exclude: &|name| name.starts_with("optimizer/"),
        rename: &|path| renames.apply(path),
        ..Grouping::default()
    };
    let list = "
        optimizer/a/w/weight F32 [4, 4]
        a/w/weight I8 [6144, 1024]
        a/w/scales BF16 [8, 1024]
        lost.x F32 [1]
        lost.y F32 [1]
        to_a F32 [2]
        a F32 [3]";
    insta::assert_snapshot!(grouped(list, &grouping), @r"
    a/kernel grok-1 bf16 [6144, 1024] <weight scales> from a/w
    lost.x plain f32 [1] <weight>
    lost.y plain f32 [1] <weight>
    to_a plain f32 [2] <weight>
    a plain f32 [3] <weight>
    FF480 rename-collision: `lost.x` and `lost.y` both become `same`
    ");
}

#[test]
fn renames_that_collide_fall_back_however_long_the_chain() {
    let count = 20_000;
    let list: String = (0..count).map(|at| format!("w{at} F32 [1]\n")).collect();
    // Every weight takes the next one's name; the last has none to take and keeps its own.
    let next = |path: &str| {
        let at: usize = path.strip_prefix('w')?.parse().ok()?;
        Some(format!("w{}", (at + 1).min(count - 1)))
    };
    let (inventory, findings) =
        Inventory::group(&checkpoint(&list), &Grouping { rename: &next, ..Grouping::default() });
    assert!(inventory.weights.iter().all(|weight| weight.path == weight.stored_path));
    assert!(findings.iter().all(|finding| finding.code.name == "rename-collision"));
    // A permutation is no collision.
    let turn = |path: &str| Some(format!("w{}", (path.strip_prefix('w')?.parse::<usize>().ok()? + 1) % count));
    let (inventory, findings) =
        Inventory::group(&checkpoint(&list), &Grouping { rename: &turn, ..Grouping::default() });
    assert_eq!((inventory.weights[0].path.as_str(), inventory.weights[count - 1].path.as_str()), ("w1", "w0"));
    assert_eq!(lines(&findings), "");
}

#[test]
fn tied_weights_are_aliases_of_the_first() {
    let list = "
        lm_head.weight BF16 [128, 64]
        model.embed_tokens.weight BF16 [128, 64]
        decoder.embed.weight BF16 [128, 64]
        model.norm.weight BF16 [64]";
    let mut tied = checkpoint(list);
    tied.config = Some(ModelConfig::parse(r#"{"tie_word_embeddings": true}"#).unwrap());
    let aliases = |checkpoint: &Checkpoint, ties: &[&[&str]]| {
        let ties: Vec<Vec<String>> = ties.iter().map(|tie| tie.iter().map(|&path| path.to_owned()).collect()).collect();
        let (inventory, findings) = Inventory::group(checkpoint, &Grouping { ties: &ties, ..Grouping::default() });
        let aliases: Vec<String> = inventory
            .weights
            .iter()
            .filter_map(|weight| Some(format!("{} = {}\n", weight.path, weight.alias_of.as_ref()?)))
            .collect();
        aliases.concat() + &lines(&findings)
    };
    assert_eq!(aliases(&checkpoint(list), &[]), "");
    assert_eq!(aliases(&tied, &[]), "lm_head.weight = model.embed_tokens.weight\n");
    assert_eq!(
        aliases(&tied, &[&["decoder.embed.weight", "absent", "lm_head.weight"]]),
        "lm_head.weight = decoder.embed.weight\n",
    );
    assert_eq!(
        aliases(&tied, &[&["decoder.embed.weight", "model.embed_tokens.weight"]]),
        "lm_head.weight = decoder.embed.weight\nmodel.embed_tokens.weight = decoder.embed.weight\n",
    );
    assert_eq!(
        aliases(&checkpoint(list), &[&["model.norm.weight", "lm_head.weight"]]),
        "FF486 tie-mismatch: `model.norm.weight` is plain (bf16 [64]), `lm_head.weight` is plain (bf16 [128, 64]); \
         they cannot be one weight\n",
    );
}
