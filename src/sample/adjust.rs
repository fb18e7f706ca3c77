//! Masks, biases and penalties: stages that change single scores.
//!
//! Each computes in f64 and rounds once to f32. A masked token stays masked.

use super::config::Scope;
use super::math::{exp_non_positive, ln};
use super::order::{Entry, MASKED, key};
use super::row::SampleError;
use super::run::Run;
use super::stage::{Dry, Seen, Stage, last};

/// Applies a stage that masks or adjusts.
pub(crate) fn apply(run: &mut Run<'_>, stage: &Stage) -> Result<(), SampleError> {
    match stage {
        Stage::VocabLimit(limit) => run.limit(*limit as usize),
        Stage::Allow(tokens) => {
            known(run, "allow", tokens.last())?;
            allow(run, tokens);
        }
        Stage::Deny(tokens) => {
            known(run, "deny", tokens.last())?;
            adjust(run, tokens, |_, _| f64::NEG_INFINITY);
        }
        Stage::LogitBias(bias) => {
            known(run, "logit_bias", bias.last().map(|(token, _)| token))?;
            run.settle_scale();
            add_bias(run, bias);
        }
        Stage::MinTokens { count, scope, eos } => {
            known(run, "eos", eos.last())?;
            let prompt = if *scope == Scope::All { run.row.prompt.len() } else { 0 };
            if prompt + run.row.output.len() < *count as usize {
                adjust(run, eos, |_, _| f64::NEG_INFINITY);
            }
        }
        Stage::NoRepeatNgram(n) => {
            mark_ngram_ends(run, *n as usize);
            adjust_marked(run, |_, _| f64::NEG_INFINITY);
        }
        Stage::Repetition { penalty, seen } => {
            count_tokens(run, *seen);
            run.settle_scale();
            adjust_marked(run, |score, _| if score > 0.0 { score / penalty } else { score * penalty });
        }
        Stage::Frequency { penalty, seen } => {
            count_tokens(run, *seen);
            run.settle_scale();
            adjust_marked(run, |score, count| score - penalty * f64::from(count));
        }
        Stage::Presence { penalty, seen } => {
            count_tokens(run, *seen);
            run.settle_scale();
            adjust_marked(run, |score, _| score - penalty);
        }
        Stage::Dry(dry) => {
            mark_repeats(run, dry);
            run.settle_scale();
            adjust_marked(run, |score, length| score - dry_penalty(dry, length));
        }
        _ => {}
    }
    Ok(())
}

/// Refuses ids that the row does not have; lists are ascending, so the last one tells.
fn known(run: &Run<'_>, what: &'static str, largest: Option<&u32>) -> Result<(), SampleError> {
    let tokens = run.row.logits.len();
    match largest {
        Some(&token) if token as usize >= tokens => Err(SampleError::Token { what, token, tokens }),
        _ => Ok(()),
    }
}

fn allow(run: &mut Run<'_>, tokens: &[u32]) {
    if run.whole {
        let mut allowed = tokens.iter().map(|&token| token as usize);
        let mut next = allowed.next();
        for (token, score) in run.scores_mut().iter_mut().enumerate() {
            if next == Some(token) {
                next = allowed.next();
            } else {
                *score = f32::NEG_INFINITY;
            }
        }
    } else {
        run.work.entries.retain(|entry| tokens.binary_search(&entry.token()).is_ok());
    }
}

fn add_bias(run: &mut Run<'_>, bias: &[(u32, f64)]) {
    if run.whole {
        let scores = run.scores_mut();
        for &(token, bias) in bias {
            if let Some(score) = scores.get_mut(token as usize) {
                change(score, |score| score + bias);
            }
        }
    } else {
        let of = |token: u32| bias.binary_search_by_key(&token, |&(token, _)| token).ok().map(|at| bias[at].1);
        adjust_entries(run, |token, score| of(token).map_or(score, |bias| score + bias));
    }
}

/// Changes the scores of ascending tokens; `with` gets the score and the token's mark.
fn adjust(run: &mut Run<'_>, tokens: &[u32], with: impl Fn(f64, u32) -> f64) {
    if run.whole {
        let scores = run.scores_mut();
        for &token in tokens {
            if let Some(score) = scores.get_mut(token as usize) {
                change(score, |score| with(score, 0));
            }
        }
    } else {
        adjust_entries(run, |token, score| if tokens.binary_search(&token).is_ok() { with(score, 0) } else { score });
    }
}

/// Changes the scores of marked tokens; `with` gets the score and the mark.
fn adjust_marked(run: &mut Run<'_>, with: impl Fn(f64, u32) -> f64) {
    let marks = std::mem::take(&mut run.work.marks);
    if run.whole {
        if !marks.marked().is_empty() {
            let scores = run.scores_mut();
            for &token in marks.marked() {
                if let Some(score) = scores.get_mut(token as usize) {
                    change(score, |score| with(score, marks.get(token)));
                }
            }
        }
    } else {
        adjust_entries(run, |token, score| match marks.get(token) {
            0 => score,
            mark => with(score, mark),
        });
    }
    run.work.marks = marks;
}

/// Changes the scores of a list, drops what became masked, and puts the rest back in order.
fn adjust_entries(run: &mut Run<'_>, with: impl Fn(u32, f64) -> f64) {
    let entries = &mut run.work.entries;
    for entry in entries.iter_mut() {
        let mut score = entry.score();
        change(&mut score, |score| with(entry.token(), score));
        *entry = Entry::new(key(score), entry.token());
    }
    entries.retain(|entry| entry.key() != MASKED);
    entries.sort_unstable();
}

/// Changes a score unless it is masked.
fn change(score: &mut f32, with: impl FnOnce(f64) -> f64) {
    if *score != f32::NEG_INFINITY {
        *score = with(f64::from(*score)) as f32;
    }
}

/// Marks each token with how often it was seen.
fn count_tokens(run: &mut Run<'_>, seen: Seen) {
    if run.work.marks.counted == Some(seen) {
        return;
    }
    run.work.marks.reset(run.row.logits.len());
    let (prompt, output) = seen.of(run.row.prompt, run.row.output);
    for &token in prompt.iter().chain(output) {
        run.work.marks.update(token, |count| count + 1);
    }
    run.work.marks.counted = Some(seen);
}

/// Marks the tokens that followed an earlier occurrence of the sequence's last `n - 1` tokens.
fn mark_ngram_ends(run: &mut Run<'_>, n: usize) {
    run.work.marks.reset(run.row.logits.len());
    let mut sequence = std::mem::take(&mut run.work.sequence);
    sequence.clear();
    sequence.extend(run.row.prompt.iter().chain(run.row.output));
    if let Some(tail) = sequence.len().checked_sub(n - 1).and_then(|at| sequence.get(at..)) {
        for window in sequence.windows(n) {
            if let Some((&end, head)) = window.split_last()
                && head == tail
            {
                run.work.marks.update(end, |_| 1);
            }
        }
    }
    run.work.sequence = sequence;
}

/// Marks each token that would continue a repeated sequence with the longest such sequence's length.
///
/// The rule is llama.cpp's `llama_sampler_dry_apply`: lengths come from a Z-algorithm over the reversed history, and a
/// breaker ends the search.
fn mark_repeats(run: &mut Run<'_>, dry: &Dry) {
    run.work.marks.reset(run.row.logits.len());
    let mut reversed = std::mem::take(&mut run.work.sequence);
    let mut repeats = std::mem::take(&mut run.work.repeats);
    let window = dry.window.map_or(usize::MAX, |window| window as usize);
    let (prompt, output) = last(run.row.prompt, run.row.output, window);
    reversed.clear();
    reversed.extend(output.iter().rev().chain(prompt.iter().rev()));
    let allowed = dry.allowed_length as usize;
    let limit = longest_unbroken(&reversed, &dry.breakers);
    if reversed.len() > allowed && limit >= allowed {
        z_function(&reversed, &mut repeats);
        for (start, &length) in repeats.iter().enumerate().skip(1) {
            // The token before the match, in time after it, is the one that would go on.
            let (length, next) = ((length as usize).min(limit), reversed[start - 1]);
            let breaker = dry.breakers.iter().any(|breaker| breaker.as_slice() == [next]);
            if length >= allowed && !breaker {
                run.work.marks.update(next, |longest| longest.max(length as u32));
            }
        }
    }
    run.work.sequence = reversed;
    run.work.repeats = repeats;
}

/// How far back from the end a repeat may reach before it meets a breaker.
fn longest_unbroken(reversed: &[u32], breakers: &[Vec<u32>]) -> usize {
    for (at, &token) in reversed.iter().enumerate() {
        let longest = breakers
            .iter()
            .filter_map(|breaker| breaker.split_first())
            .filter(|(head, rest)| **head == token && rest.len() <= at)
            .filter(|(_, rest)| rest.iter().zip(reversed[..at].iter().rev()).all(|(a, b)| a == b))
            .map(|(_, rest)| rest.len())
            .max();
        if let Some(longest) = longest {
            return at - longest;
        }
    }
    reversed.len()
}

/// `lengths[i]`: how many tokens from `i` on equal those from the start. `lengths[0]` is 0.
fn z_function(text: &[u32], lengths: &mut Vec<u32>) {
    lengths.clear();
    lengths.resize(text.len(), 0);
    let (mut left, mut right) = (0, 0);
    for i in 1..text.len() {
        let mut length = if i < right { (lengths[i - left] as usize).min(right - i) } else { 0 };
        while i + length < text.len() && text[length] == text[i + length] {
            length += 1;
        }
        if i + length > right {
            (left, right) = (i, i + length);
        }
        lengths[i] = length as u32;
    }
}

/// `multiplier * base^(length - allowed)`, at most `multiplier` times the largest f32.
fn dry_penalty(dry: &Dry, length: u32) -> f64 {
    /// `ln(f32::MAX)`.
    const LARGEST_EXPONENT: f64 = 88.722_839_1;
    let exponent = f64::from(length - dry.allowed_length);
    let logarithm = (exponent * ln(dry.base)).min(LARGEST_EXPONENT);
    dry.multiplier / exp_non_positive(-logarithm)
}
