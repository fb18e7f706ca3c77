//! Minimisation by Hopcroft's partition refinement, to a canonical form: automata of one language are equal.
//!
//! J. Hopcroft, "An n log n algorithm for minimizing states in a finite automaton" (1971).

use foldhash::fast::FixedState;
use indexmap::{IndexMap, IndexSet};

use super::automaton::{Automaton, DEAD, index};

/// The least automaton of the same language: states numbered breadth first, classes merged.
pub(super) fn minimize(automaton: &Automaton) -> Automaton {
    let block_of = Partition::refine(automaton);
    let dead = block_of[DEAD as usize];
    // A member of each block; they all behave alike.
    let mut member: IndexMap<u32, usize, FixedState> = IndexMap::default();
    for (state, &block) in block_of.iter().enumerate() {
        member.entry(block).or_insert(state);
    }
    let mut order: IndexSet<u32, FixedState> = IndexSet::default();
    order.insert(dead);
    let start = index(order.insert_full(block_of[automaton.start as usize]).0);
    let (mut next, mut accept) = (Vec::new(), Vec::new());
    let mut at = 0;
    while let Some(state) = order.get_index(at).and_then(|block| member.get(block)).copied() {
        for class in 0..automaton.width {
            let block = block_of[automaton.next[state * automaton.width + class] as usize];
            next.push(index(order.insert_full(block).0));
        }
        accept.push(automaton.accept[state]);
        at += 1;
    }
    merge_classes(Automaton { classes: automaton.classes.clone(), width: automaton.width, next, accept, start })
}

/// Joins the classes that no state tells apart, and numbers them by their first byte.
fn merge_classes(automaton: Automaton) -> Automaton {
    let column = |class: u8| -> Vec<u32> {
        automaton.next.chunks_exact(automaton.width).map(|row| row[usize::from(class)]).collect()
    };
    let mut columns: IndexSet<Vec<u32>, FixedState> = IndexSet::default();
    let mut merged = vec![None; automaton.width];
    let mut classes = automaton.classes.clone();
    for class in classes.iter_mut() {
        let known = &mut merged[usize::from(*class)];
        let joint = *known.get_or_insert_with(|| columns.insert_full(column(*class)).0);
        // There are no more classes than there were.
        *class = u8::try_from(joint).unwrap_or(u8::MAX);
    }
    let states = automaton.accept.len();
    let next = (0..states).flat_map(|state| columns.iter().map(move |column| column[state])).collect();
    Automaton { classes, width: columns.len(), next, ..automaton }
}

/// A partition of the states that is refined in place.
struct Partition {
    /// The states, block by block.
    order: Vec<u32>,
    /// Where each state stands in `order`.
    position: Vec<u32>,
    block_of: Vec<u32>,
    /// Range of each block in `order`.
    blocks: Vec<(u32, u32)>,
    /// How many states of each block were hit by the splitter at hand; they stand first.
    hit: Vec<u32>,
}

impl Partition {
    /// The block of each state, once states in one block cannot be told apart.
    fn refine(automaton: &Automaton) -> Vec<u32> {
        let states = automaton.len();
        let inverse = Inverse::new(automaton);
        let mut partition = Self {
            order: (0..index(states)).collect(),
            position: (0..index(states)).collect(),
            block_of: vec![0; states],
            blocks: vec![(0, index(states))],
            hit: vec![0],
        };
        let accepting: Vec<u32> = (0..index(states)).filter(|&state| automaton.accept[state as usize]).collect();
        let mut pending = vec![0];
        partition.split(accepting.iter().copied(), &mut pending);
        let mut splitter = Vec::new();
        while let Some(block) = pending.pop() {
            let (from, to) = partition.blocks[block as usize];
            splitter.clear();
            splitter.extend_from_slice(&partition.order[from as usize..to as usize]);
            for class in 0..automaton.width {
                let sources = splitter.iter().flat_map(|&state| inverse.sources(class, state)).copied();
                partition.split(sources, &mut pending);
            }
        }
        partition.block_of
    }

    /// Splits each block into the states named and the others; pushes each new block, which is the smaller half.
    fn split(&mut self, states: impl Iterator<Item = u32>, pending: &mut Vec<u32>) {
        let mut touched = Vec::new();
        for state in states {
            let block = self.block_of[state as usize] as usize;
            let (from, _) = self.blocks[block];
            let first_unhit = from + self.hit[block];
            if self.position[state as usize] < first_unhit {
                continue; // Hit before.
            }
            if self.hit[block] == 0 {
                touched.push(block);
            }
            self.swap(self.position[state as usize], first_unhit);
            self.hit[block] += 1;
        }
        for block in touched {
            let (from, to) = self.blocks[block];
            let hit = std::mem::take(&mut self.hit[block]);
            let middle = from + hit;
            if middle == to {
                continue;
            }
            let (old, new) =
                if hit <= to - middle { ((middle, to), (from, middle)) } else { ((from, middle), (middle, to)) };
            let name = index(self.blocks.len());
            self.blocks[block] = old;
            self.blocks.push(new);
            self.hit.push(0);
            for at in new.0..new.1 {
                self.block_of[self.order[at as usize] as usize] = name;
            }
            pending.push(name);
        }
    }

    fn swap(&mut self, a: u32, b: u32) {
        self.order.swap(a as usize, b as usize);
        for at in [a, b] {
            self.position[self.order[at as usize] as usize] = at;
        }
    }
}

/// The states that lead to a state, by class.
struct Inverse {
    /// Where the sources of `class * states + state` begin.
    starts: Vec<u32>,
    sources: Vec<u32>,
    states: usize,
}

impl Inverse {
    fn new(automaton: &Automaton) -> Self {
        let states = automaton.len();
        let slot = |class: usize, target: u32| class * states + target as usize;
        let mut starts = vec![0; states * automaton.width + 1];
        for row in automaton.next.chunks_exact(automaton.width) {
            for (class, &target) in row.iter().enumerate() {
                starts[slot(class, target) + 1] += 1;
            }
        }
        for at in 1..starts.len() {
            starts[at] += starts[at - 1];
        }
        let mut filled = starts.clone();
        let mut sources = vec![0; automaton.next.len()];
        for (state, row) in automaton.next.chunks_exact(automaton.width).enumerate() {
            for (class, &target) in row.iter().enumerate() {
                let at = &mut filled[slot(class, target)];
                sources[*at as usize] = index(state);
                *at += 1;
            }
        }
        Self { starts, sources, states }
    }

    fn sources(&self, class: usize, state: u32) -> &[u32] {
        let slot = class * self.states + state as usize;
        &self.sources[self.starts[slot] as usize..self.starts[slot + 1] as usize]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn automaton(regex: &str) -> Automaton {
        let hir = regex_syntax::ParserBuilder::new().unicode(false).utf8(false).build().parse(regex).unwrap();
        Automaton::compile(&hir, 1 << 20).unwrap()
    }

    #[test]
    fn automata_of_one_language_are_equal() {
        let alike = [
            ("(a|b)*", "(a*b*)*"),
            ("a|ab|abc", "a(b(c)?)?"),
            ("(ab)*a", "a(ba)*"),
            ("[a-c]x|[d-f]x", "[a-f]x"),
            (r"a\bb", "[^\\x00-\\xff]"),
            ("(?:a|ab)(?:c|bcd)", "ac|abcd|abc|abbcd"),
        ];
        for (one, other) in alike {
            assert_eq!(automaton(one), automaton(other), "{one} and {other}");
        }
        assert_ne!(automaton("(a|b)*"), automaton("(a|b)+"));
    }

    #[test]
    fn the_least_automaton_of_a_language_has_the_known_size() {
        // The third letter from the end is an `a`: eight states, and the dead one.
        assert_eq!(automaton("[ab]*a[ab][ab]").len(), 8 + 1);
        assert_eq!(automaton("abc").len(), 4 + 1);
        assert_eq!(automaton("(?s).*").len(), 1 + 1);
    }
}
