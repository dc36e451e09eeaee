//! When a generated event is due: the first at once, then `rate` of them per second.
//!
//! ```text
//!   rate 2/s, opened at 10:00:00 with event 7 next:   7 → 10:00:00.0   8 → 10:00:00.5   9 → 10:00:01.0
//! ```
//!
//! A source that was away (a restart) goes on at its rate; it does not catch up. All arithmetic is whole,
//! so that `due` and `due_at_us` agree on the microsecond.

use std::time::Duration;

#[derive(Debug, Clone)]
pub struct Pace {
    /// Thousandths of an event per second; `None` is as fast as possible.
    rate_milli: Option<u64>,
    /// The event that was next when the source was opened, and when that was.
    first: u64,
    opened_us: i64,
}

impl Pace {
    pub fn new(rate_milli: Option<u64>, first: u64, opened_us: i64) -> Self {
        Pace { rate_milli, first, opened_us }
    }

    pub fn is_limited(&self) -> bool {
        self.rate_milli.is_some()
    }

    /// All events below this number are due.
    pub fn due(&self, now_us: i64) -> u64 {
        let Some(rate) = self.rate_milli else { return u64::MAX };
        let elapsed_us = (now_us - self.opened_us).max(0) as u128;
        self.first + 1 + (elapsed_us * u128::from(rate) / 1_000_000_000) as u64
    }

    /// When `event` is due. Without a rate everything was due when the source was opened.
    pub fn due_at_us(&self, event: u64) -> i64 {
        let Some(rate) = self.rate_milli else { return self.opened_us };
        let events = u128::from(event.saturating_sub(self.first));
        self.opened_us + (events * 1_000_000_000).div_ceil(u128::from(rate)) as i64
    }

    pub fn wait(&self, event: u64, now_us: i64) -> Duration {
        Duration::from_micros((self.due_at_us(event) - now_us).max(0) as u64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_fall_due_at_the_rate_from_the_first_on() {
        let pace = Pace::new(Some(2000), 7, 10_000_000);
        assert_eq!((pace.due(10_000_000), pace.due(10_499_999), pace.due(10_500_000)), (8, 8, 9));
        assert_eq!(pace.due(9_000_000), 8, "a clock that falls back takes nothing back");
        assert_eq!(pace.wait(9, 10_000_000), Duration::from_secs(1));
        assert_eq!(Pace::new(None, 7, 10).due(0), u64::MAX);
    }

    #[test]
    fn an_event_is_due_exactly_when_said() {
        for rate in [1, 999, 3_000, 7_777_777] {
            let pace = Pace::new(Some(rate), 5, 123);
            for event in 6..100 {
                let at = pace.due_at_us(event);
                assert!(pace.due(at) > event && pace.due(at - 1) <= event, "rate {rate}, event {event}");
            }
        }
    }
}
