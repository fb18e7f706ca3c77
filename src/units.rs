//! Numbers for people: byte sizes in binary units, counts in groups of three.
//!
//! Documents for programs carry plain integers; these are for tables and sentences.

/// A byte size: two decimals, rounded half up, in the largest unit that keeps the number below 1024.
///
/// ```
/// use flow_fabric::units::bytes;
/// assert_eq!(bytes(0), "0 B");
/// assert_eq!(bytes(1023), "1023 B");
/// assert_eq!(bytes(1536), "1.50 KiB");
/// assert_eq!(bytes(80 << 30), "80.00 GiB");
/// ```
#[must_use]
pub fn bytes(bytes: u64) -> String {
    size(u128::from(bytes))
}

/// A change of a byte size, with its sign.
///
/// ```
/// use flow_fabric::units::bytes_change;
/// assert_eq!(bytes_change(3 << 20), "+3.00 MiB");
/// assert_eq!(bytes_change(-512), "-512 B");
/// assert_eq!(bytes_change(0), "0 B");
/// ```
#[must_use]
pub fn bytes_change(bytes: i128) -> String {
    let sign = match bytes {
        0 => "",
        1.. => "+",
        _ => "-",
    };
    format!("{sign}{}", size(bytes.unsigned_abs()))
}

/// A count with a comma between thousands.
///
/// ```
/// use flow_fabric::units::count;
/// assert_eq!(count(770), "770");
/// assert_eq!(count(22_713_728), "22,713,728");
/// ```
#[must_use]
pub fn count(count: u64) -> String {
    let digits = count.to_string();
    let mut grouped = String::with_capacity(digits.len() + digits.len() / 3);
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            grouped.push(',');
        }
        grouped.push(digit);
    }
    grouped
}

/// A count and what is counted.
///
/// ```
/// use flow_fabric::units::counted;
/// assert_eq!(counted(1, "weight"), "1 weight");
/// assert_eq!(counted(2048, "file"), "2,048 files");
/// ```
#[must_use]
pub fn counted(number: usize, noun: &str) -> String {
    let plural = if number == 1 { "" } else { "s" };
    format!("{} {noun}{plural}", count(number as u64))
}

/// A measured number: four significant digits, with a power of ten where it is very small or very large.
///
/// ```
/// use flow_fabric::units::number;
/// assert_eq!([0.0, 0.012_345, 44.25, -1234.5].map(number), ["0", "0.01235", "44.25", "-1234"]);
/// assert_eq!([1.2e-7, 3.5e9, f64::INFINITY].map(number), ["1.2e-7", "3.5e9", "infinity"]);
/// ```
#[must_use]
pub fn number(value: f64) -> String {
    if value == 0.0 {
        return "0".to_owned();
    }
    if !value.is_finite() {
        let name = if value.is_nan() { "nan" } else { "infinity" };
        return if value < 0.0 { format!("-{name}") } else { name.to_owned() };
    }
    let trimmed = |text: &str| {
        if text.contains('.') { text.trim_end_matches('0').trim_end_matches('.').to_owned() } else { text.to_owned() }
    };
    // Rounded first, so that 9.9999 counts as 10.
    let rounded = format!("{value:.3e}");
    let (digits, exponent) = rounded.split_once('e').unwrap_or((&rounded, "0"));
    match exponent.parse::<i32>() {
        Ok(exponent @ -4..=5) => {
            let decimals = usize::try_from(3 - exponent).unwrap_or(0);
            trimmed(&format!("{value:.decimals$}"))
        }
        _ => format!("{}e{exponent}", trimmed(digits)),
    }
}

fn size(bytes: u128) -> String {
    const LARGER: [&str; 5] = ["MiB", "GiB", "TiB", "PiB", "EiB"];
    if bytes < 1024 {
        return format!("{bytes} B");
    }
    let (mut unit, mut name) = (1024, "KiB");
    for larger in LARGER {
        // Asked of the rounded number: 1023.995 KiB would read 1024.00 KiB.
        if hundredths(bytes, unit) < 102_400 {
            break;
        }
        (unit, name) = (unit * 1024, larger);
    }
    let hundredths = hundredths(bytes, unit);
    format!("{}.{:02} {name}", hundredths / 100, hundredths % 100)
}

/// In integers, so that no float noise gets into snapshots; saturates beyond what any of our sums can reach.
fn hundredths(bytes: u128, unit: u128) -> u128 {
    bytes.saturating_mul(200).saturating_add(unit) / (2 * unit)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_round_half_up_and_never_show_1024() {
        assert_eq!(bytes(1024), "1.00 KiB");
        assert_eq!(bytes(1024 + 5), "1.00 KiB");
        assert_eq!(bytes(1024 + 6), "1.01 KiB");
        assert_eq!(bytes((1 << 20) - 6), "1023.99 KiB");
        assert_eq!(bytes((1 << 20) - 5), "1.00 MiB");
        assert_eq!(bytes((1 << 20) - 1), "1.00 MiB");
        assert_eq!(bytes(u64::MAX), "16.00 EiB");
        assert!(bytes_change(i128::MIN).starts_with('-'));
    }

    #[test]
    fn groups_count_from_the_right() {
        let texts = [0, 999, 1_000, 12_345, 123_456, 1_234_567].map(count);
        assert_eq!(texts, ["0", "999", "1,000", "12,345", "123,456", "1,234,567"]);
    }
}
