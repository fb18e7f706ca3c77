//! Numbers for people: byte sizes and grouped counts.

/// A byte size in binary units, two decimals from KiB on: `41.20 GiB`.
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
    const UNITS: [&str; 6] = ["KiB", "MiB", "GiB", "TiB", "PiB", "EiB"];
    if bytes < 1024 {
        return format!("{bytes} B");
    }
    // Hundredths of the unit in integers: no float noise in snapshots.
    let mut unit = 0;
    let mut scale: u128 = 1 << 10;
    while unit + 1 < UNITS.len() && u128::from(bytes) >= scale << 10 {
        scale <<= 10;
        unit += 1;
    }
    let hundredths = (u128::from(bytes) * 100 + scale / 2) / scale;
    format!("{}.{:02} {}", hundredths / 100, hundredths % 100, UNITS.get(unit).copied().unwrap_or("B"))
}

/// A count with a comma between thousands: `1,218`.
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
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            grouped.push(',');
        }
        grouped.push(digit);
    }
    grouped
}
