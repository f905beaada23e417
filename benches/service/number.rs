//! Numbers as text, for tables and pictures.

/// A number as somebody has chosen it: with all its digits, and none that say nothing.
pub fn plain(it: f64) -> String {
    let text = format!("{it:.3}");
    let text = text.trim_end_matches('0').trim_end_matches('.');
    match text.split_once('.') {
        Some((whole, fraction)) => format!("{}.{fraction}", grouped(whole)),
        None => grouped(text),
    }
}

/// A number with as many digits as mean something.
pub fn number(it: f64) -> String {
    if it < 10.0 {
        return format!("{it:.2}");
    }
    if it < 100.0 {
        return format!("{it:.1}");
    }
    grouped(&format!("{it:.0}"))
}

fn grouped(digits: &str) -> String {
    let mut grouped = String::new();
    for (place, digit) in digits.chars().enumerate() {
        if place > 0 && (digits.len() - place).is_multiple_of(3) {
            grouped.push(',');
        }
        grouped.push(digit);
    }
    grouped
}
