//! Templates: many paths as a few lines that people can read.
//!
//! `transformer/decoder_layer_{0..63}/moe/{linear,linear_v}/w` stands for 128 paths. One algorithm makes the templates
//! of `inspect`, plans, snapshots and diffs: paths of equal key that differ in numbers, and perhaps in one word, are cut
//! into products of number sets and word sets, the largest first. The result depends on the set of paths only, not on
//! their order, and a tensor more or less changes few records besides its own.

mod natural;
mod product;
mod skeleton;
mod words;

use std::collections::BTreeMap;
use std::fmt;

pub use natural::natural_cmp;
use product::Product;
use skeleton::Skeleton;

/// A set of paths that differ in numbers and at most in one word.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Template<K> {
    /// What the paths have in common besides their form.
    pub key: K,
    /// The form.
    pub segments: Vec<Segment>,
    /// Positions in the input, ascending.
    pub members: Vec<usize>,
}

/// A piece of a template. The paths are the product of all pieces.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Segment {
    /// This text.
    Text(String),
    /// One of these numbers; ascending, two or more.
    Numbers(Vec<u64>),
    /// One of these tokens; in natural order, two or more, in one place of a template at most.
    Words(Vec<String>),
}

/// Collapses paths into templates; paths of different keys stay apart.
///
/// Every path is in exactly one template, and the templates stand for no other path. They come in natural order of
/// their first paths (`layer_2` before `layer_10`).
///
/// ```
/// use flow_fabric::inventory::collapse;
/// let paths = ["h.0.k.w", "h.0.v.w", "h.1.k.w", "h.1.v.w", "h.2.k.w", "h.2.v.w", "h.10.k.w", "norm"];
/// let templates = collapse(paths.iter().map(|&path| (path, "f32")));
/// let lines: Vec<String> = templates.iter().map(|template| format!("{template} {}", template.key)).collect();
/// assert_eq!(lines, ["h.{0..2}.{k,v}.w f32", "h.10.k.w f32", "norm f32"]);
/// ```
pub fn collapse<'a, K: Ord + Clone>(paths: impl IntoIterator<Item = (&'a str, K)>) -> Vec<Template<K>> {
    let mut by_key: BTreeMap<K, Pool<'a>> = BTreeMap::new();
    for (at, (path, key)) in paths.into_iter().enumerate() {
        let (texts, numbers) = natural::cut(path);
        by_key.entry(key).or_default().entry(Skeleton::new(&texts)).or_default().entry(numbers).or_default().push(at);
    }
    let mut templates = Vec::new();
    for (key, mut pool) in by_key {
        let mut forms = words::join(&mut pool);
        for (skeleton, tuples) in pool {
            forms.extend(products(&tuples).into_iter().map(|(sets, members)| (skeleton.segments(sets, None), members)));
        }
        templates.extend(forms.into_iter().map(|(segments, mut members)| {
            members.sort_unstable();
            (first_path(&segments), Template { key: key.clone(), segments, members })
        }));
    }
    templates.sort_by(|(a, _), (b, _)| natural_cmp(a, b));
    templates.into_iter().map(|(_, template)| template).collect()
}

/// Paths of equal key: what they are besides their numbers, and the numbers.
type Pool<'a> = BTreeMap<Skeleton<'a>, Tuples>;

/// The numbers of paths, and the positions in the input that have them.
type Tuples = BTreeMap<Vec<u64>, Vec<usize>>;

/// Cuts tuples into products, each with its members.
fn products(tuples: &Tuples) -> Vec<(Product, Vec<usize>)> {
    let all: Vec<&[u64]> = tuples.keys().map(Vec::as_slice).collect();
    let with_members = |sets: Product| {
        let mut members = Vec::new();
        product::each(&sets, |tuple| members.extend(tuples.get(tuple).into_iter().flatten().copied()));
        (sets, members)
    };
    product::cover(&all).into_iter().map(with_members).collect()
}

fn first_path(segments: &[Segment]) -> String {
    let mut path = String::new();
    for segment in segments {
        match segment {
            Segment::Text(text) => path.push_str(text),
            Segment::Numbers(numbers) => {
                path.extend(numbers.first().map(ToString::to_string));
            }
            Segment::Words(words) => path.push_str(words.first().map_or("", String::as_str)),
        }
    }
    path
}

impl<K> Template<K> {
    /// How many paths it stands for.
    #[must_use]
    pub fn count(&self) -> usize {
        self.segments.iter().fold(1, |product: usize, segment| {
            product.saturating_mul(match segment {
                Segment::Text(_) => 1,
                Segment::Numbers(numbers) => numbers.len(),
                Segment::Words(words) => words.len(),
            })
        })
    }

    /// The paths it stands for, the last number or word changing fastest.
    ///
    /// ```
    /// use flow_fabric::inventory::collapse;
    /// let templates = collapse([("a/1", ()), ("a/0", ())]);
    /// assert_eq!(templates[0].expand(), ["a/0", "a/1"]);
    /// ```
    #[must_use]
    pub fn expand(&self) -> Vec<String> {
        let mut paths = vec![String::new()];
        for segment in &self.segments {
            let alternatives: Vec<String> = match segment {
                Segment::Text(text) => vec![text.clone()],
                Segment::Numbers(numbers) => numbers.iter().map(ToString::to_string).collect(),
                Segment::Words(words) => words.clone(),
            };
            paths = paths
                .iter()
                .flat_map(|path| alternatives.iter().map(move |alternative| [path.as_str(), alternative].concat()))
                .collect();
        }
        paths
    }
}

/// Numbers as `{0..3,5,7..9}`, words as `{k,v}_proj`; a brace, comma or backslash of a path has a backslash before it.
impl<K> fmt::Display for Template<K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut text = String::new();
        for segment in &self.segments {
            match segment {
                Segment::Text(plain) => escape(plain, &mut text),
                Segment::Numbers(numbers) => ranges(numbers, &mut text),
                Segment::Words(words) => words::alternatives(words, &mut text),
            }
        }
        f.pad(&text)
    }
}

fn escape(plain: &str, out: &mut String) {
    for c in plain.chars() {
        if matches!(c, '{' | '}' | ',' | '\\') {
            out.push('\\');
        }
        out.push(c);
    }
}

/// Three or more in a row are a range.
fn ranges(numbers: &[u64], out: &mut String) {
    let mut items: Vec<String> = Vec::new();
    for run in numbers.chunk_by(|a, b| a.checked_add(1) == Some(*b)) {
        match run {
            [first, _, .., last] => items.push(format!("{first}..{last}")),
            few => items.extend(few.iter().map(ToString::to_string)),
        }
    }
    out.push('{');
    out.push_str(&items.join(","));
    out.push('}');
}
