//! Lengths of time as people write them.

use std::time::Duration;

/// `90s`, `15m`, `2h`, or plain seconds.
///
/// # Errors
/// Says what was expected.
pub fn parse_duration(text: &str) -> Result<Duration, String> {
    let (number, unit) = text.split_at(
        text.find(|c: char| !c.is_ascii_digit())
            .unwrap_or(text.len()),
    );
    let seconds = match unit {
        "" | "s" => 1,
        "m" => 60,
        "h" => 3_600,
        _ => {
            return Err(format!(
                "`{unit}` is not a unit; use s, m or h, such as 15m"
            ));
        }
    };
    match number.parse::<u64>() {
        Ok(n @ 1..=1_000_000) => Ok(Duration::from_secs(n * seconds)),
        _ => Err("expected a number and a unit, such as 15m".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_read_like_people_write_them() {
        assert_eq!(parse_duration("15m"), Ok(Duration::from_secs(900)));
        assert_eq!(parse_duration("90"), Ok(Duration::from_secs(90)));
        for wrong in ["", "m", "0s", "3d", "-1s", "1m30s"] {
            assert!(parse_duration(wrong).is_err(), "{wrong}");
        }
    }
}
