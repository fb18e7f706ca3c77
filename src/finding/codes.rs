//! The registry: one documented item per finding. `rule CODE`, the reference page and SARIF are made from it.
//!
//! Codes are `FFcdd`, never reused: FF0 syntax and shape, FF1 names, FF2 patterns, FF3 order and reachability, FF4 fit
//! to a checkpoint, FF5 memory and load, FF6 hygiene, FF7 hostile input, FF9 import and export.

use super::Severity;

/// A kind of finding and its page.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Code {
    /// `FF` and three digits.
    pub id: &'static str,
    /// The kebab-case name, as `[lints]` spells it.
    pub name: &'static str,
    /// Severity unless `[lints]` or the command line say otherwise.
    pub severity: Severity,
    /// What was found.
    pub what: &'static str,
    /// Why it matters.
    pub why: &'static str,
    /// A smallest input that has it.
    pub bad: &'static str,
    /// The same, put right.
    pub good: &'static str,
}

/// Finds a code by `FFcdd` (any case) or by name.
#[must_use]
pub fn by_id_or_name(text: &str) -> Option<&'static Code> {
    ALL.iter().copied().find(|code| code.id.eq_ignore_ascii_case(text) || code.name == text)
}

macro_rules! codes {
    ($( $konst:ident $id:literal $name:literal $severity:ident
        what $what:literal
        why $why:literal
        bad $bad:literal
        good $good:literal )*) => {
        /// One constant per kind of finding.
        pub mod code {
            use super::{Code, Severity};
            $(
                #[doc = concat!("`", $id, "` ", $name, ": ", $what)]
                pub static $konst: Code = Code {
                    id: $id, name: $name, severity: Severity::$severity,
                    what: $what, why: $why, bad: $bad, good: $good,
                };
            )*
        }

        /// Every code, in order of id.
        pub static ALL: &[&Code] = &[$(&code::$konst),*];
    };
}

codes! {
    SYNTAX "FF001" "syntax" Error
        what "The text is not TOML."
        why "Nothing after the error can be trusted, so the file is refused; every syntax error of the file is listed."
        bad "policy = \"grok-1"
        good "policy = \"grok-1\""

    UNKNOWN_KEY "FF002" "unknown-key" Error
        what "A key that the language does not have."
        why "A misspelt key that is ignored is a decision that is not made; nothing is ignored."
        bad "[mesh]\naxis = [\"data\", \"model\"]"
        good "[mesh]\naxes = [\"data\", \"model\"]"

    WRONG_TYPE "FF003" "wrong-type" Error
        what "A value of the wrong type."
        why "The key has a meaning only for the type the reference gives."
        bad "[mesh]\naxes = \"data\""
        good "[mesh]\naxes = [\"data\"]"

    MISSING_KEY "FF004" "missing-key" Error
        what "A required key is absent."
        why "There is no default that would be right for everyone."
        bad "[[FLOW_FABRIC_PARTITION_RULES]]\nglob = \"**\"\nspec = []"
        good "[[FLOW_FABRIC_PARTITION_RULES]]\nname = \"all\"\nglob = \"**\"\nspec = []"

    BAD_VALUE "FF005" "bad-value" Error
        what "A value outside the set or range that the key accepts."
        why "Ranges are checked where the value is written, not where it would fail."
        bad "[partition]\nindivisible = \"truncate\""
        good "[partition]\nindivisible = \"pad\""

    PATTERN_FORMS "FF006" "pattern-forms" Error
        what "A rule without a pattern, or with a pattern in more than one form."
        why "A rule has exactly one pattern; two forms would have to be combined by a guess."
        bad "[[FLOW_FABRIC_PARTITION_RULES]]\nname = \"a\"\nglob = \"**\"\nregex = \".*\"\nspec = []"
        good "[[FLOW_FABRIC_PARTITION_RULES]]\nname = \"a\"\nglob = \"**\"\nspec = []"

    FILE_NOT_READ "FF007" "file-not-read" Error
        what "A policy file that cannot be read."
        why "A policy without one of its files is another policy."
        bad "extends = [\"bsae.toml\"]"
        good "extends = [\"base.toml\"]"

    OUTSIDE_TREE "FF008" "outside-tree" Error
        what "An `extends` that leaves the directory of the root policy."
        why "A policy is reviewed as a tree; a file from elsewhere can change without a review. `--allow-outside` permits it."
        bad "extends = [\"../../shared/base.toml\"]"
        good "extends = [\"base.toml\"]"

    EXTENDS_CYCLE "FF009" "extends-cycle" Error
        what "Policies that extend each other."
        why "Which rules come first would depend on where one starts."
        bad "# a.toml\nextends = [\"b.toml\"]\n# b.toml\nextends = [\"a.toml\"]"
        good "# a.toml and b.toml\nextends = [\"common.toml\"]"

    BAD_MESH "FF010" "bad-mesh" Error
        what "Axes and sizes that make no mesh."
        why "Every spec is said against the mesh."
        bad "[mesh]\naxes = [\"data\", \"model\"]\nshape = [8]"
        good "[mesh]\naxes = [\"data\", \"model\"]\nshape = [1, 8]"

    UNKNOWN_AXIS "FF101" "unknown-axis" Error
        what "A spec names an axis that the mesh does not have."
        why "The weight would silently not be split."
        bad "[mesh]\naxes = [\"model\"]\nshape = [8]\n# and in a rule\nspec = [\"modle\"]"
        good "[mesh]\naxes = [\"model\"]\nshape = [8]\n# and in a rule\nspec = [\"model\"]"

    REPEATED_AXIS "FF102" "repeated-axis" Error
        what "One axis is used twice in a spec."
        why "A device has one coordinate on an axis; it cannot cut two dimensions, nor cut one and place the weight."
        bad "spec = [\"model\", \"model\"]"
        good "spec = [\"data\", \"model\"]"

    UNKNOWN_SCHEME "FF103" "unknown-scheme" Error
        what "A rule names a scheme that is not declared."
        why "There is no default scheme; `keep` is the word for none."
        bad "scheme = \"int8-chanel\""
        good "scheme = \"int8-channel\""

    DUPLICATE_RULE "FF104" "duplicate-rule" Error
        what "Two rules of a table have one name."
        why "Plans, snapshots and `explain` quote rules by name. An inherited rule is replaced with `override = true` only."
        bad "# base.toml has a rule `mlp`\n[[FLOW_FABRIC_PARTITION_RULES]]\nname = \"mlp\""
        good "[[FLOW_FABRIC_PARTITION_RULES]]\nname = \"mlp\"\noverride = true"

    OVERRIDES_NOTHING "FF105" "overrides-nothing" Error
        what "A rule says `override = true`, but no extended policy has a rule of that name."
        why "The rule that was meant to be replaced still holds."
        bad "[[FLOW_FABRIC_PARTITION_RULES]]\nname = \"mpl\"\noverride = true"
        good "[[FLOW_FABRIC_PARTITION_RULES]]\nname = \"mlp\"\noverride = true"

    UNKNOWN_SAMPLER "FF106" "unknown-sampler" Error
        what "A slot names a sampler that is not declared."
        why "The slot's adapter would ask for nothing."
        bad "[slot.slot07]\nsampler = \"respones\""
        good "[slot.slot07]\nsampler = \"response\""

    UNKNOWN_MOE "FF107" "unknown-moe" Error
        what "A slot names a mixture-of-experts profile that is not declared."
        why "The slot's adapter would ask for nothing."
        bad "[slot.slot06]\nmoe = \"grok\""
        good "[slot.slot06]\nmoe = \"grok-1\""

    UNKNOWN_RULE "FF108" "unknown-rule" Error
        what "An `expect` names a rule that its table does not have."
        why "The test could never pass."
        bad "rule = { partition = \"moe-upp\" }"
        good "rule = { partition = \"moe-up\" }"

    NO_SUCH_DTYPE "FF109" "no-such-dtype" Error
        what "A dtype that does not exist."
        why "A condition on it would never hold."
        bad "when = { dtype = \"bfloat\" }"
        good "when = { dtype = \"bf16\" }"

    UNKNOWN_FORMAT "FF110" "unknown-format" Error
        what "A stored format that does not exist."
        why "A condition on it would never hold."
        bad "when = { format = \"grok1\" }"
        good "when = { format = \"grok-1\" }"

    UNKNOWN_SLOT "FF111" "unknown-slot" Error
        what "A slot is asked for that the policy does not declare."
        why "There is nothing to answer."
        bad "plan.slot(\"slot9\")"
        good "plan.slot(\"slot09\")"

    SCHEME_NOT_IN_LAYOUT "FF112" "scheme-not-in-layout" Error
        what "A layout that cannot hold a scheme."
        why "Layout and format together fix names, companions and arithmetic; no engine would read anything else."
        bad "[scheme.small]\nformat = \"nf4\"\n[quantization]\nlayout = \"grok-1\""
        good "[scheme.small]\nformat = \"nf4\"\n[quantization]\nlayout = \"bitsandbytes\""

    INHERIT_CYCLE "FF113" "inherit-cycle" Error
        what "A sampler inherits itself, perhaps through others."
        why "A profile is its own keys over those of the one it inherits; a circle has no first one."
        bad "[sampler.a]\ninherit = \"b\"\n\n[sampler.b]\ninherit = \"a\""
        good "[sampler.a]\ninherit = \"b\"\n\n[sampler.b]\ntemperature = 0.7"

    REGEX_SYNTAX "FF201" "regex-syntax" Error
        what "A regex that is not well formed."
        why "No engine reads it, so the rule has no meaning."
        bad "tokens = [\"(query|key\", \"w\"]"
        good "tokens = [\"query|key\", \"w\"]"

    LOOK_AROUND "FF202" "look-around" Error
        what "A look-ahead or look-behind in a regex."
        why "Only backtracking engines read it, and their time grows without bound; exceptions have a key of their own."
        bad "regex = '(?!lm_head).*weight'"
        good "regex = '.*weight'\nexcept = [\"lm_head.**\"]"

    BACK_REFERENCE "FF203" "back-reference" Error
        what "A regex that refers to what one of its groups matched."
        why "Only backtracking engines read it; a path never needs it, as the alternatives are few."
        bad "regex = '(up|down)_proj\\.\\1'"
        good "regex = 'up_proj\\.up|down_proj\\.down'"

    POSSESSIVE "FF204" "possessive-repeat" Error
        what "A possessive repeat (`a++`) or an atomic group (`(?>...)`)."
        why "Python 3.11 reads the first as possessive, Rust as a repeat of a repeat: they match different names."
        bad "tokens = [\"layer_[0-9]++\"]"
        good "tokens = [\"layer_[0-9]+\"]"

    REGEX_REPEAT "FF205" "regex-repeat" Error
        what "A repeat that Python and Rust do not both read: `a**`, `x{,3}`, a bare `{`, a repeated anchor."
        why "One engine refuses it or takes it as text, so the rule would mean another thing after an export."
        bad "tokens = [\"expert_[0-9]{,2}\"]"
        good "tokens = [\"expert_[0-9]{0,2}\"]"

    INLINE_FLAGS "FF206" "inline-flags" Error
        what "Flags inside a regex, such as `(?i)` or `(?s:...)`."
        why "Python and Rust scope them differently, and letter case folds differently beyond ASCII."
        bad "tokens = [\"(?i)weight\"]"
        good "tokens = [\"[Ww]eight\"]"

    REGEX_CLASS "FF207" "regex-class" Error
        what "A character class with a set operation, a nested class, a POSIX class or a backspace."
        why "`[a&&b]`, `[[:alpha:]]` and `[a[b]` compile in Python and in Rust, with different meanings."
        bad "tokens = [\"[[:alpha:]]+\"]"
        good "tokens = [\"[A-Za-z]+\"]"

    REGEX_ESCAPE "FF208" "regex-escape" Error
        what "An escape that Python and Rust do not share: `\\z`, `\\<`, `\\p{..}`, `\\b{..}`, octal and braced code points, `\\B`."
        why "One engine refuses it or reads something else."
        bad "tokens = ['\\p{L}+']"
        good "tokens = ['[A-Za-z]+']"

    REGEX_GROUP "FF209" "regex-group" Error
        what "A kind of group that Python and Rust do not share: `(?<name>`, comments, conditionals."
        why "One engine refuses it or reads something else."
        bad "regex = 'layer_(?<n>\\d+)'"
        good "regex = 'layer_(?P<n>\\d+)'"

    MISPLACED_ANCHOR "FF210" "misplaced-anchor" Error
        what "`^`, `\\A` or `$` away from the ends of a regex."
        why "Patterns are always anchored at both ends, so an anchor elsewhere can never hold."
        bad "regex = 'model$\\.weight'"
        good "regex = 'model\\.weight'"

    SEPARATOR_IN_TOKEN "FF211" "separator-in-token" Error
        what "A token regex that matches only text with a separator in it."
        why "Paths are cut at separators, so no token ever matches."
        bad "tokens = [\"moe/linear\", \"w\"]"
        good "tokens = [\"moe\", \"linear\", \"w\"]"

    GLOB_SYNTAX "FF212" "glob-syntax" Error
        what "A glob that is not well formed, or whose parts do not fit its tokens."
        why "`**` is a whole token, classes stay within one, brackets and braces close: anything else is read differently by every tool."
        bad "glob = \"model**.weight\""
        good "glob = \"model.**.weight\""

    EMPTY_PATTERN "FF213" "empty-pattern" Error
        what "A pattern without text."
        why "It would match the empty path only, which no weight has."
        bad "glob = \"\""
        good "glob = \"**\""

    PATTERN_TOO_LARGE "FF214" "pattern-too-large" Error
        what "A pattern that is too long, too deep or stands for too much."
        why "Patterns are compiled to automata; the limits keep those small whatever the policy holds."
        bad "tokens = [\"[a-z]{9999}\"]"
        good "tokens = [\"[a-z]+\"]"

    UNREACHABLE_RULE "FF301" "unreachable-rule" Error
        what "A rule that can never match any path, whatever the checkpoint."
        why "It was written to decide something, and never will."
        bad "glob = \"moe/**\"\nexcept = [\"**\"]"
        good "glob = \"moe/**\"\nexcept = [\"**/router/**\"]"

    SHADOWED_RULE "FF302" "shadowed-rule" Warning
        what "A rule that never decides, as earlier rules of its table take every path that it matches."
        why "The first rule that matches decides; the paths meant for this one are decided by others. Proven for the union of the earlier rules, with a path as witness."
        bad "[[LOADER_RULES]]\nname = \"all\"\nglob = \"**\"\n[[LOADER_RULES]]\nname = \"experts\"\nglob = \"**/moe/**\""
        good "[[LOADER_RULES]]\nname = \"experts\"\nglob = \"**/moe/**\"\n[[LOADER_RULES]]\nname = \"all\"\nglob = \"**\""

    EMPTY_TABLE "FF303" "empty-table" Warning
        what "A policy without partition rules."
        why "It decides nothing about sharding; every weight is unmatched."
        bad "language = 1\npolicy = \"empty\""
        good "[[FLOW_FABRIC_PARTITION_RULES]]\nname = \"all\"\nglob = \"**\"\nspec = []"

    UNDECIDED_REACHABILITY "FF304" "undecided-reachability" Info
        what "A rule of which the analysis could not tell, within its budget, whether it can decide."
        why "No answer is not the same as a good answer; a plan over a checkpoint shows which rules matched."
        bad "regex = '.*(a.{40}|b.{41}).*'"
        good "glob = \"**/{a,b}*/**\""

    OUTSIDE_UNIVERSE "FF305" "outside-universe" Warning
        what "A rule that matches none of the path shapes that the universe lists."
        why "The shapes come from real inventories: the rule is for another model, or its pattern is misspelt."
        bad "glob = \"model.layer.*.mlp.down_proj.weight\""
        good "glob = \"model.layers.*.mlp.down_proj.weight\""

    UNMATCHED_WEIGHT "FF401" "unmatched-weight" Error
        what "A weight that no rule of a table matches, where the policy wants every weight decided."
        why "A weight that is replicated or kept because nobody thought of it is how memory and accuracy are lost."
        bad "[partition]\nunmatched = \"error\"\n# and no rule for `model.norm.weight`"
        good "[[FLOW_FABRIC_PARTITION_RULES]]\nname = \"norms\"\ntokens = [\".*norm\"]\nspec = []"

    UNUSED_RULE "FF402" "unused-rule" Warning
        what "A rule of the root policy that matches no weight of the checkpoint."
        why "It is misspelt, or for another model; either way a reader thinks that it does something."
        bad "glob = \"model.layer.*.mlp.**\""
        good "glob = \"model.layers.*.mlp.**\""

    NEVER_DECIDES "FF403" "never-decides" Warning
        what "A rule of the root policy that matches weights but decides none."
        why "Earlier rules take them all, or its conditions never hold."
        bad "# first\nglob = \"**\"\n# then\nglob = \"**.norm.weight\""
        good "# first\nglob = \"**.norm.weight\"\n# then\nglob = \"**\""

    SPEC_TOO_LONG "FF404" "spec-too-long" Error
        what "A spec with more entries than the weight has dimensions."
        why "There is nothing to split; engines refuse it when the model is already loading."
        bad "spec = [\"-\", \"data\", \"model\"]  # on a matrix"
        good "when = { rank = 3 }\nspec = [\"-\", \"data\", \"model\"]"

    INDIVISIBLE "FF405" "indivisible-dimension" Error
        what "Axes whose sizes do not divide the dimension that they split."
        why "Engines refuse it, or pad or replicate in silence; here the way out is declared."
        bad "[mesh]\naxes = [\"model\"]\nshape = [10]\n# on a dimension of 6144"
        good "[mesh]\naxes = [\"model\"]\nshape = [8]"

    CUT_UNIT "FF406" "cut-unit" Error
        what "A split that would cut inside a unit, such as an attention head."
        why "Half a head on each device computes something else, without an error."
        bad "spec = [{ axis = \"model\", unit = 128 }]  # 8 heads over 16 devices"
        good "spec = [{ axis = \"model\", unit = 128, fewer = \"replicate\" }]"

    CUT_GROUP "FF407" "cut-group" Error
        what "A shard boundary inside a group of elements that share a scale, a packed word or a block."
        why "A scale belongs to its whole group; half a group on each device cannot be decoded there."
        bad "granularity = { group = 128 }  # 704 columns per device"
        good "granularity = { group = 64 }"

    SCHEME_DOES_NOT_FIT "FF408" "scheme-does-not-fit" Error
        what "A weight that the scheme cannot hold in the policy's layout."
        why "Peers find out when they save, without naming the weight; here it is known from shapes."
        bad "format = \"q4_k\"  # on rows of 200"
        good "scheme = \"keep\"  # for those weights"

    SENSITIVE_WEIGHT "FF409" "sensitive-weight" Error
        what "A rule quantizes a router, norm, embedding, head or vector."
        why "They are small and lose much: router precision decides quality more than expert precision does."
        bad "[[QUANTIZATION_RULES]]\nname = \"all\"\nglob = \"**\"\nscheme = \"int8\""
        good "[[QUANTIZATION_RULES]]\nname = \"router\"\nglob = \"**/router/**\"\nscheme = \"keep\""

    MISPLACED "FF410" "misplaced-weight" Error
        what "A weight of a placing rule without a number, or with a number beyond `of`."
        why "No device would own it."
        bad "place = { axis = \"expert\", index = 'experts\\.(\\d+)', of = 128 }  # 256 experts"
        good "place = { axis = \"expert\", index = 'experts\\.(\\d+)', of = 256 }"

    ALIAS_DISAGREES "FF411" "alias-disagrees" Error
        what "Two names of one storage are decided differently."
        why "Tied weights are one weight: written once, so decided once."
        bad "# `lm_head.weight` is tied to `model.embed_tokens.weight`, with a rule for each"
        good "path = [\"lm_head.weight\", \"model.embed_tokens.weight\"]"

    EMPTY_CHECKPOINT "FF412" "empty-checkpoint" Error
        what "A checkpoint without weights."
        why "A plan over nothing passes every test."
        bad "flow-fabric plan policy.toml empty-folder/"
        good "flow-fabric plan policy.toml model.safetensors"

    EXPECT_FAILED "FF413" "expect-failed" Error
        what "A weight has another decision than an `expect` states."
        why "The inline test fails: the rules or the expectation are wrong."
        bad "[[expect]]\npath = \"a/w\"\nspec = [\"data\"]  # and the rule says `model`"
        good "[[expect]]\npath = \"a/w\"\nspec = [\"model\"]"

    EXPECT_NO_WEIGHT "FF414" "expect-no-weight" Error
        what "An `expect` about a weight that the checkpoint does not have."
        why "The inline test tests nothing."
        bad "[[expect]]\npath = \"model.layer.0.w\""
        good "[[expect]]\npath = \"model.layers.0.w\""

    EMPTY_SLOT "FF415" "empty-slot" Warning
        what "A slot of the root policy whose patterns match no weight."
        why "Its adapter would get nothing."
        bad "[slot.slot09]\ntensors = [\"slot9/**\"]"
        good "[slot.slot09]\ntensors = [\"slot09/**\"]"

    SIBLINGS_DISAGREE "FF416" "siblings-disagree" Error
        what "Weights that an engine fuses are quantized by different schemes."
        why "An engine that fuses q, k and v or gate and up has one scheme for the fused weight; it refuses the file, or reads codes of one as codes of another."
        bad "[siblings]\nqkv = [\"q_proj\", \"k_proj\", \"v_proj\"]\n# and a rule that quantizes `q_proj` alone"
        good "[siblings]\nqkv = [\"q_proj\", \"k_proj\", \"v_proj\"]\n# and a rule with `tokens = [\"[qkv]_proj\"]`"

    LIMIT_BROKEN "FF417" "limit-broken" Error
        what "A quantized weight does not keep to the limits of its rule or scheme."
        why "The policy says how much drift is acceptable; what is measured on the written bytes is more, so nothing is published unless `--keep-going` says so."
        bad "limits = { max_relative_error = 0.001 }\n# on `int4`"
        good "limits = { max_relative_error = 0.02 }\n# on `int8`"

    NONFINITE_WEIGHT "FF418" "nonfinite-weight" Error
        what "A weight to be quantized holds values that are NaN or infinite, or that no scale of its scheme can hold."
        why "One such value spoils the scale of its group, channel or whole tensor, silently; it nearly always means a broken checkpoint."
        bad "# a checkpoint with a NaN in `mlp/w`, and a rule that quantizes it"
        good "[quantization]\nnonfinite = \"keep\"\n# or a rule with `scheme = \"keep\"` before it"

    NOT_COMPARED "FF419" "not-compared" Warning
        what "A weight of one checkpoint has no partner of the same path and shape in the other."
        why "Its values are in no figure: the comparison says nothing about it."
        bad "flow-fabric drift --compare model/ other-model/"
        good "flow-fabric drift --compare model/ model-quantized/"

    RENAME_COLLISION "FF480" "rename-collision" Error
        what "Two stored weights get the same path by renaming."
        why "Plans are keyed by path; with one of two weights lost, the plan would be wrong without a word. The weights concerned keep their stored paths."
        bad "[loader]\nrename = [{ regex = 'model\\.layers\\.\\d+\\.(.*)', to = 'layers.$1' }]"
        good "[loader]\nrename = [{ regex = 'model\\.layers\\.(\\d+)\\.(.*)', to = 'layers.$1.$2' }]"

    GROUP_COLLISION "FF481" "group-collision" Error
        what "A stored tensor has the path of a weight that other tensors make up."
        why "`p/weight` with `p/scales` is the weight `p`; a tensor `p` beside them makes two of it. The parts stay weights of their own."
        bad "tensors `p`, `p/weight` (i8) and `p/scales`"
        good "[loader]\nexclude = [{ path = \"p\" }]"

    ORPHAN_COMPANION "FF482" "orphan-companion" Warning
        what "A tensor named like the scales of a quantized weight has no weight."
        why "The weight may be in a missing shard, excluded, or named in a way that no layout knows; rules would see the scales as a weight."
        bad "tensor `layers.0.w.weight_scale_inv` without `layers.0.w.weight`"
        good "tensors `layers.0.w.weight` (f8_e4m3) and `layers.0.w.weight_scale_inv`"

    COMPANION_MISMATCH "FF483" "companion-mismatch" Warning
        what "Tensors named like a quantized weight and its scales do not fit each other."
        why "Names alone do not make a layout: with other shapes or dtypes, decoding would be wrong. They stay weights of their own."
        bad "`p/weight` i8 [6144, 1024] with `p/scales` bf16 [5, 1024]"
        good "`p/weight` i8 [6144, 1024] with `p/scales` bf16 [8, 1024]"

    UNKNOWN_PACKING "FF484" "unknown-packing" Error
        what "The bits per code of a packed weight cannot be told from headers."
        why "A row of 512 words is 4096 four-bit codes or 2048 eight-bit ones; without `quantization_config` in the config.json beside the weights, the logical shape would be a guess."
        bad "`w.weight_packed` i32 [4096, 512] alone in a directory"
        good "the same with config.json: {\"quantization_config\": {\"config_groups\": {\"group_0\": {\"targets\": [\"Linear\"], \"weights\": {\"num_bits\": 4, \"group_size\": 128}}}}}"

    UNKNOWN_SHAPE "FF485" "unknown-shape" Error
        what "The logical shape of a weight is in bytes that cannot be read here."
        why "bitsandbytes flattens its 4-bit weights and keeps the shape in the bytes of `quant_state`; a list has no bytes. The parts stay weights of their own."
        bad "a JSONL list with `w.weight` u8 [8388608, 1] and `w.weight.quant_state.bitsandbytes__nf4`"
        good "the safetensors file itself"

    TIE_MISMATCH "FF486" "tie-mismatch" Error
        what "Weights that are said to be one have different shapes or stored forms."
        why "Tied weights are counted and written once; that is wrong for two different tensors. They stay apart."
        bad "[[tie]]\npaths = [\"model.embed_tokens.weight\", \"model.norm.weight\"]"
        good "[[tie]]\npaths = [\"model.embed_tokens.weight\", \"lm_head.weight\"]"

    DEVICE_MEMORY "FF501" "device-memory" Error
        what "Devices that would hold more bytes than the mesh declares."
        why "The job would die after minutes of loading; the sum is known from headers."
        bad "device_memory = \"16GiB\"  # for 40 GiB of weights per device"
        good "device_memory = \"80GiB\""

    STORED_OTHERWISE "FF502" "stored-otherwise" Warning
        what "Weights are stored in another form than the policy plans."
        why "Loading never re-encodes: a device gets what is stored, and that is what has to fit its memory and its kernels."
        bad "flow-fabric load policy.toml model/ --device 0  # the policy quantizes, model/ is bf16"
        good "flow-fabric quantize policy.toml model/ -o model-int8 && flow-fabric load policy.toml model-int8 --device 0"

    NOT_A_RANGE "FF503" "not-a-range" Error
        what "A tensor's bytes do not stand in its file one after the other."
        why "It is packed, strided, or known from a list only, so there are no byte ranges that a device could read."
        bad "flow-fabric load policy.toml pytorch_model.bin --device 0  # saved with a transposed view"
        good "flow-fabric convert pytorch_model.bin -o model && flow-fabric load policy.toml model --device 0"

    OUTPUT_EXISTS "FF550" "output-exists" Error
        what "The place of the output is taken."
        why "Replacing what somebody made takes a word from the user; nothing was written."
        bad "$ flow-fabric convert pytorch_model.bin -o model  # where model/ holds files"
        good "$ flow-fabric convert pytorch_model.bin -o model --force"

    OUTPUT_BUSY "FF551" "output-busy" Error
        what "Another run is writing to the same place."
        why "Two runs that write one output would mix their pieces; the second one stops before it writes a byte."
        bad "two conversions into model/ at the same time"
        good "one after the other, or into two directories"

    OUTPUT_FULL "FF552" "output-full" Error
        what "The disk, the quota or the largest file size ends before the output does."
        why "The space is taken before the work begins where the file system allows it; the old output is untouched and no part of the new one stands under its name."
        bad "a model of 15 GiB, and 10 GiB free"
        good "a disk with 15 GiB free"

    OUTPUT_REFUSED "FF553" "output-refused" Error
        what "The system does not let this user write there, or the file system is read-only."
        why "An output is written beside its place and renamed, so the directory above it must be writable, too."
        bad "$ flow-fabric convert pytorch_model.bin -o /models/a  # /models is read-only"
        good "$ flow-fabric convert pytorch_model.bin -o ~/models/a"

    OUTPUT_FAILED "FF554" "output-failed" Error
        what "The output could not be written for another reason, which the message gives."
        why "The old output, if there was one, is untouched; what was written of the new one is cleared away by the next run."
        bad "a disk that reports an input/output error"
        good "a disk that works"

    UNWRITABLE_TENSOR "FF555" "unwritable-tensor" Error
        what "A tensor has a type, a name or a shape that the output's format cannot hold."
        why "Leaving it out, or giving it another type, would be another checkpoint; nothing was written."
        bad "a `q4_0` tensor of a GGUF file, written to safetensors"
        good "its values in `f32`, as `dequantize` gives them"

    ENGINE_METADATA "FF556" "engine-metadata" Warning
        what "The file that is written lacks metadata or tensors without which engines do not load it."
        why "A GGUF file is a whole model: sizes, vocabulary and the engine's own tensor names stand in it, and safetensors files do not have them."
        bad "$ flow-fabric quantize q8_0.toml model.safetensors -o out"
        good "$ flow-fabric quantize q8_0.toml model.safetensors -o out --metadata-from model-f16.gguf"

    DIGEST_MISMATCH "FF560" "digest-mismatch" Error
        what "The bytes of a chunk of a tensor are not those that the manifest was made from."
        why "The file was damaged on its way, or replaced. The weights would load without a word and compute nonsense; nothing of the tensor is used."
        bad "a bit of model-00002-of-00004.safetensors that flipped on the disk"
        good "the file as it was when `flow-fabric manifest` read it"

    MANIFEST_DIFFERS "FF561" "manifest-differs" Error
        what "The manifest beside a checkpoint is about other files or tensors."
        why "What it says about the bytes cannot be held against these; a checkpoint that was written anew needs a manifest that is made anew."
        bad "a manifest of version 1 beside the shards of version 2"
        good "$ flow-fabric manifest model"

    MALFORMED_MANIFEST "FF562" "malformed-manifest" Error
        what "A manifest is not the document that `manifest` writes."
        why "A rule asks for verification, and without digests nothing can be verified."
        bad "{\"format\": \"flow-fabric-manifest\", \"format_version\": 1}"
        good "$ flow-fabric manifest model"

    MISSING_MANIFEST "FF563" "missing-manifest" Error
        what "A loader rule asks for verification, and no manifest lies beside the checkpoint."
        why "Loading without it would pass over what the policy demands."
        bad "verify = \"blake3\"  # and no flow-fabric.manifest.json"
        good "$ flow-fabric manifest model"

    CHUNK_OVER_BUDGET "FF564" "chunk-over-budget" Error
        what "A tensor is verified in chunks that are larger than the loader's memory budget."
        why "A chunk is held whole until its digest is known, and a load never holds more than its result and the budget."
        bad "budget = \"32MiB\"  # and a manifest of --chunk-size 64MiB"
        good "budget = \"128MiB\""

    STAGE_SPACE "FF570" "stage-space" Error
        what "What is to be staged does not fit: into the free space of the target, or into the budget."
        why "It is known before a byte is copied. A container's /dev/shm often has 64 MiB only."
        bad "$ flow-fabric stage grok-1 --to /dev/shm/grok-1  # 296 GiB"
        good "$ flow-fabric stage grok-1 --to /mnt/nvme/grok-1"

    STAGE_DAMAGED "FF571" "stage-damaged" Error
        what "A staged copy is not what was staged."
        why "Its record has a digest of every file; one that differs was damaged or edited, and is not brought back."
        bad "a copy in which a file was edited"
        good "a copy as `stage` wrote it"

    UNKNOWN_LINT "FF601" "unknown-lint" Error
        what "A level is set for a finding that does not exist."
        why "The level has no effect, so what it was meant to deny passes, or what it was meant to allow is reported."
        bad "[lints]\nunused-rules = \"deny\""
        good "[lints]\nunused-rule = \"deny\""

    NOT_A_LINT "FF602" "not-a-lint" Error
        what "A level lowers a finding that is always an error."
        why "Only warnings and infos can be allowed: a policy that is wrong does not become right by being quiet."
        bad "[lints]\nunknown-key = \"warn\""
        good "[lints]\nallow-silences-nothing = \"deny\""

    ALLOW_WITHOUT_REASON "FF603" "allow-without-reason" Warning
        what "An allow does not say why."
        why "The next reader cannot tell a decision from an oversight, and nobody knows when the allow may go."
        bad "[lints]\nallow-silences-nothing = \"allow\""
        good "[lints]\nallow-silences-nothing = { level = \"allow\", reason = \"shared by three policies\" }"

    ALLOW_SILENCES_NOTHING "FF604" "allow-silences-nothing" Warning
        what "An allow silences nothing: what it allows was looked for and not found."
        why "A stale allow hides the next finding of its kind, which nobody decided to accept."
        bad "[lints]\nallow-without-reason = { level = \"allow\", reason = \"no allow here lacks one\" }"
        good "[lints]"

    NO_EFFECT "FF605" "key-without-effect" Warning
        what "A key of a profile that changes nothing beside the others."
        why "Whoever wrote it means something by it; what it belongs to is off."
        bad "[sampler.a]\nxtc_threshold = 0.2"
        good "[sampler.a]\nxtc_threshold = 0.2\nxtc_probability = 0.5"

    NEAR_GREEDY "FF606" "near-greedy-temperature" Warning
        what "A temperature above 0 and below 0.01."
        why "It draws the best token but for near ties, at the price of a draw; engines treat it as 0 or raise it, each its own way."
        bad "[sampler.a]\ntemperature = 0.001"
        good "[sampler.a]\ntemperature = 0"

    HEADER_LENGTH "FF701" "header-length" Error
        what "The header length at the start of a safetensors file cannot be right."
        why "The length is checked against the file and a cap of 100,000,000 before anything is read or allocated."
        bad "a file of 1000 bytes whose first 8 bytes say 2000"
        good "a complete file"

    MALFORMED_HEADER "FF702" "malformed-header" Error
        what "The header of a safetensors file is not the JSON that the format prescribes."
        why "UTF-8, an object from the first byte, nothing but spaces after it: readers that are more lenient than others see other tensors in the same file."
        bad " {\"w\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0,4]}}"
        good "{\"w\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0,4]}}"

    HEADER_FIELD "FF703" "header-field" Error
        what "A header entry lacks a field, repeats one, has an unknown one, or one of the wrong type."
        why "Each of these is read differently by different readers; a plan made from one reading would be wrong for another."
        bad "{\"w\":{\"dtype\":\"F32\",\"shape\":[1.0],\"data_offsets\":[0,4]}}"
        good "{\"w\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0,4]}}"

    DUPLICATE_TENSOR "FF704" "duplicate-tensor" Error
        what "A tensor name stands twice: in one header, after unescaping, or in two files of a checkpoint."
        why "Some readers take the first, some the last; weights could be swapped in front of one reader and not of another."
        bad "{\"a\":{\"dtype\":\"U8\",\"shape\":[1],\"data_offsets\":[0,1]},\"\\u0061\":{\"dtype\":\"U8\",\"shape\":[1],\"data_offsets\":[1,2]}}"
        good "{\"a\":{\"dtype\":\"U8\",\"shape\":[1],\"data_offsets\":[0,1]},\"b\":{\"dtype\":\"U8\",\"shape\":[1],\"data_offsets\":[1,2]}}"

    TENSOR_NAME "FF705" "tensor-name" Error
        what "A tensor name is empty, longer than 4096 bytes, or holds a control character."
        why "Such names break reports and terminals and are not made by any framework."
        bad "{\"w\\u0000\":{\"dtype\":\"U8\",\"shape\":[1],\"data_offsets\":[0,1]}}"
        good "{\"w\":{\"dtype\":\"U8\",\"shape\":[1],\"data_offsets\":[0,1]}}"

    UNKNOWN_DTYPE "FF706" "unknown-dtype" Error
        what "A tensor has a dtype that this version does not know."
        why "Its size cannot be checked and its values cannot be read, so the tensor is left out of the inventory."
        bad "{\"w\":{\"dtype\":\"bf16\",\"shape\":[1],\"data_offsets\":[0,2]}}"
        good "{\"w\":{\"dtype\":\"BF16\",\"shape\":[1],\"data_offsets\":[0,2]}}"

    TENSOR_SIZE "FF707" "tensor-size" Error
        what "The bytes a tensor has are not those that its dtype and shape take."
        why "A reader that trusts the one and allocates by the other reads or writes out of bounds."
        bad "{\"w\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[0,4]}}"
        good "{\"w\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[0,8]}}"

    SIZE_OVERFLOW "FF708" "size-overflow" Error
        what "A tensor's dimensions multiply beyond 64 bits."
        why "A product that wraps round passes for a small size; this is how readers of model files have been exploited."
        bad "{\"w\":{\"dtype\":\"F32\",\"shape\":[4294967296,4294967296],\"data_offsets\":[0,0]}}"
        good "{\"w\":{\"dtype\":\"F32\",\"shape\":[0],\"data_offsets\":[0,0]}}"

    TENSOR_OVERLAP "FF709" "tensor-overlap" Error
        what "Two tensors of a file share bytes."
        why "The format forbids it; writing one tensor in place would change the other."
        bad "{\"a\":{\"dtype\":\"U8\",\"shape\":[2],\"data_offsets\":[0,2]},\"b\":{\"dtype\":\"U8\",\"shape\":[2],\"data_offsets\":[1,3]}}"
        good "{\"a\":{\"dtype\":\"U8\",\"shape\":[2],\"data_offsets\":[0,2]},\"b\":{\"dtype\":\"U8\",\"shape\":[2],\"data_offsets\":[2,4]}}"

    TENSOR_GAP "FF710" "tensor-gap" Error
        what "Bytes between two tensors, or before the first, belong to none."
        why "The format forbids it: a hole can carry anything, a second file included."
        bad "{\"a\":{\"dtype\":\"U8\",\"shape\":[1],\"data_offsets\":[1,2]}}"
        good "{\"a\":{\"dtype\":\"U8\",\"shape\":[1],\"data_offsets\":[0,1]}}"

    FILE_LENGTH "FF711" "file-length" Error
        what "The last tensor does not end where the file ends."
        why "The file was cut short, or something was appended to it."
        bad "a download that stopped"
        good "the complete file"

    TOO_LARGE "FF712" "too-large" Error
        what "A header goes beyond a limit: 1,000,000 tensors, 64 dimensions, lines of 1 MiB."
        why "No model comes near these limits; files that do are made to exhaust memory."
        bad "a shape of 10,000 dimensions"
        good "a shape of 4 dimensions"

    NOT_A_FILE "FF713" "not-a-file" Error
        what "A file of the checkpoint is a directory, a FIFO or a device."
        why "Reading a FIFO waits forever, reading a device never ends."
        bad "mkfifo model.safetensors"
        good "a regular file, or a link to one"

    UNREADABLE_FILE "FF714" "unreadable-file" Error
        what "A file of the checkpoint cannot be read."
        why "Its tensors are missing from the inventory."
        bad "chmod 000 model-00002-of-00004.safetensors"
        good "chmod 644 model-00002-of-00004.safetensors"

    FILE_CHANGED "FF715" "file-changed" Error
        what "A file changed while its header was read."
        why "Header and data may belong to different versions of the file."
        bad "reading a checkpoint that training is still writing"
        good "reading it when it is complete"

    MALFORMED_INDEX "FF716" "malformed-index" Error
        what "A `*.safetensors.index.json` is not what the format prescribes."
        why "It says which shard holds which tensor; without it the shards cannot be trusted to be all."
        bad "{\"weight_map\": {\"w\": 1}}"
        good "{\"weight_map\": {\"w\": \"model-00001-of-00001.safetensors\"}}"

    INDEX_PATH "FF717" "index-path" Error
        what "An index maps a tensor to something that is not a plain file name."
        why "An index comes with the download; a path in it could make the loader read any file of the machine."
        bad "{\"weight_map\": {\"w\": \"../../etc/passwd\"}}"
        good "{\"weight_map\": {\"w\": \"model-00001-of-00001.safetensors\"}}"

    MISSING_SHARD "FF718" "missing-shard" Error
        what "Shards that the index names are absent."
        why "The inventory is incomplete; a plan of it says nothing about the missing weights."
        bad "a directory with the index and the first of four shards"
        good "a directory with all four"

    MISSING_TENSOR "FF719" "missing-tensor" Error
        what "The index maps a tensor to a shard that does not hold it."
        why "The index and the shards come from different versions of the model, or a shard was swapped."
        bad "{\"weight_map\": {\"lm_head.weight\": \"model-00001-of-00002.safetensors\"}} where only the second shard has it"
        good "an index that is written together with its shards"

    UNINDEXED_TENSOR "FF720" "unindexed-tensor" Warning
        what "A shard holds tensors that the index does not name."
        why "Readers that follow the index never see them; readers that follow the files do."
        bad "a shard with `model.norm.weight` and an index without it"
        good "an index that names every tensor"

    INDEX_TOTAL_SIZE "FF721" "index-total-size" Info
        what "`metadata.total_size` of an index is not the bytes of its tensors."
        why "Writers differ in what they count, so it decides nothing; progress displays of other tools rely on it."
        bad "{\"metadata\": {\"total_size\": 1}, \"weight_map\": {}}"
        good "{\"metadata\": {\"total_size\": 0}, \"weight_map\": {}}"

    MALFORMED_LIST "FF722" "malformed-list" Error
        what "A line of a JSONL list is not a tensor."
        why "The tensor it would name is missing from the inventory."
        bad "{\"name\": \"w\", \"dtype\": \"BF16\"}"
        good "{\"name\": \"w\", \"dtype\": \"BF16\", \"shape\": [4096, 4096]}"

    MALFORMED_CONFIG "FF723" "malformed-config" Warning
        what "The config.json beside the weights cannot be read."
        why "Ties and the quantization it would tell are not known."
        bad "{\"tie_word_embeddings\": true"
        good "{\"tie_word_embeddings\": true}"

    MALFORMED_GGUF "FF730" "malformed-gguf" Error
        what "The header of a GGUF file is not what the format prescribes."
        why "A count, length or type that is wrong makes everything after it wrong; the file is refused."
        bad "a key-value pair of type 13"
        good "types 0 to 12"

    GGUF_SPLIT "FF731" "gguf-split" Error
        what "The parts of a split GGUF model do not belong together."
        why "`split.no`, `split.count` and the file name must agree, or parts of different models are mixed."
        bad "a file `m-00002-of-00003.gguf` whose header says part 1 of 2"
        good "the files as the splitting tool wrote them"

    MALFORMED_PICKLE "FF740" "malformed-pickle" Error
        what "A pickle is not one of the few forms in which weights are saved."
        why "Read are arrays that numpy, ml_dtypes and jax wrote (protocols 3 to 5), Grok-1's pairs of them, and torch's tensors; everything else of the format could run code in Python."
        bad "a pickle that is cut short"
        good "weights saved as safetensors"

    REFUSED_PICKLE "FF741" "refused-pickle" Error
        what "A pickle names something, or does something, that weights do not need."
        why "Python would import and call it on loading. The offset says where it stands; the file is not read."
        bad "torch.save(transformers.TrainingArguments(...), \"training_args.bin\")"
        good "torch.save(model.state_dict(), \"pytorch_model.bin\")"

    STRIDED_TENSOR "FF742" "strided-tensor" Error
        what "A tensor is not stored row by row without holes."
        why "Its values are not a range of bytes, so it can be neither sharded nor loaded from the file as it is. `convert` writes it row by row."
        bad "torch.save({\"w\": weight.t()}, \"m.pt\")"
        good "torch.save({\"w\": weight.t().contiguous()}, \"m.pt\")"

    MALFORMED_ZIP "FF743" "malformed-zip" Error
        what "A zip archive contradicts itself, or is not what torch and numpy write."
        why "Readers that believe the directory and readers that believe the local headers would see different weights."
        bad "an archive whose directory and local header give a member different names"
        good "the file as `torch.save` or `numpy.savez` wrote it"

    COMPRESSED_MEMBER "FF744" "compressed-member" Error
        what "An array is compressed inside its archive."
        why "Its bytes have no place in the file, so they cannot be read from there by ranges. `convert` unpacks it."
        bad "numpy.savez_compressed(\"m.npz\", w=w)"
        good "numpy.savez(\"m.npz\", w=w)"

    MALFORMED_NPY "FF745" "malformed-npy" Error
        what "A member of an `.npz` is not an array as numpy writes it."
        why "Dtype and shape cannot be trusted."
        bad "an `.npz` with a text file in it"
        good "numpy.savez(\"m.npz\", w=w)"

    UNNAMED_ARRAYS "FF746" "unnamed-arrays" Warning
        what "A directory of `tensorNNNNN_000` files is not the tree that Grok-1 has."
        why "The files are named by position only; without a known tree, weights cannot be given their names and are called by their files."
        bad "ckpt-0 with 3 files"
        good "ckpt-0 with the 770 files of Grok-1"

    UNSAMPLED_ROW "FF750" "unsampled-row" Error
        what "A row of logits has no token: a NaN, a +inf on an allowed token, or every token is masked."
        why "Such a row is a fault of the model or of a mask; a token drawn from it would hide the fault, as token 0 often does."
        bad "logits = [[0.5, nan, 2.0]]"
        good "logits = [[0.5, 1.0, 2.0]]"

    BEYOND_TOLERANCE "FF751" "beyond-tolerance" Error
        what "A result differs from the reference by more than its tolerance, or went through other experts."
        why "A kernel that is wrong for one layer is wrong for every token after it; absolute tolerances would have let it pass."
        bad "flow-fabric moe policy.toml --layer a --weights w --input x.npy --compare wrong.npy"
        good "flow-fabric moe policy.toml --layer a --weights w --input x.npy --compare right.npy"
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_and_names_are_unique_well_formed_and_in_order() {
        for pair in ALL.windows(2) {
            assert!(pair[0].id < pair[1].id, "{} before {}", pair[0].id, pair[1].id);
        }
        for code in ALL {
            assert!(
                code.id.len() == 5 && code.id.starts_with("FF") && code.id[2..].bytes().all(|b| b.is_ascii_digit())
            );
            assert!(
                code.name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-'),
                "{}",
                code.name
            );
            assert_eq!(ALL.iter().filter(|other| other.name == code.name).count(), 1, "{}", code.name);
        }
    }

    #[test]
    fn pages_are_whole_and_in_the_house_style() {
        for code in ALL {
            assert!("012345679".contains(&code.id[2..3]), "{} is in no range", code.id);
            for text in [code.what, code.why] {
                assert!(text.ends_with('.') && !text.contains('\n'), "{}: {text}", code.id);
            }
            for example in [code.bad, code.good] {
                assert!(!example.trim().is_empty() && example.trim_end() == example, "{}: {example:?}", code.id);
            }
            assert_ne!(code.bad, code.good, "{} is not put right", code.id);
        }
    }
}
