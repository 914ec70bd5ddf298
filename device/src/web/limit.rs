//! How fast secrets may be tried, from one address and altogether.
//!
//! After a few failures an address waits longer and longer, up to a minute: nobody is locked out
//! for ever. The bound on all addresses together keeps the board's cores for its scans.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// Attempts that an address has before it must wait.
const FREE: u32 = 3;
/// The longest wait of an address.
const LONGEST: Duration = Duration::from_secs(60);
/// An address that rests this long starts anew.
const FORGOTTEN: Duration = Duration::from_secs(15 * 60);
/// Addresses that are remembered; with one more, the longest quiet one is forgotten.
const MAX_ADDRESSES: usize = 1024;
/// Attempts that all addresses together may make at once, and how soon another one is allowed.
const BURST: f64 = 30.0;
const REFILL: Duration = Duration::from_secs(2);

/// Counts attempts to sign in.
#[derive(Debug)]
pub struct Limiter(Mutex<Attempts>);

#[derive(Debug)]
struct Attempts {
    by_address: HashMap<IpAddr, Failures>,
    /// What is left of [`BURST`] at the moment `counted`.
    left: f64,
    counted: Instant,
}

#[derive(Clone, Copy, Debug)]
struct Failures {
    count: u32,
    last: Instant,
}

impl Limiter {
    /// Nobody has tried.
    pub fn new(now: Instant) -> Self {
        let attempts = Attempts { by_address: HashMap::new(), left: BURST, counted: now };
        Self(Mutex::new(attempts))
    }

    /// Counts an attempt as failed until [`Limiter::succeeded`] says otherwise, so that attempts
    /// made at the same time count too.
    ///
    /// # Errors
    /// How long to wait when it is too early; such an attempt does not count.
    pub fn begin(&self, address: IpAddr, now: Instant) -> Result<(), Duration> {
        let address = network(address);
        let mut attempts = self.lock();
        let failures = attempts.failures(address, now);
        let wait = failures.map_or(Duration::ZERO, |f| {
            wait_after(f.count).saturating_sub(now.saturating_duration_since(f.last))
        });
        if !wait.is_zero() {
            return Err(wait);
        }
        attempts.spend(now)?;
        let count = failures.map_or(0, |f| f.count).saturating_add(1);
        attempts.remember(address, Failures { count, last: now });
        Ok(())
    }

    /// The attempt was right: the address starts anew.
    pub fn succeeded(&self, address: IpAddr) {
        let mut attempts = self.lock();
        attempts.by_address.remove(&network(address));
        attempts.left = (attempts.left + 1.0).min(BURST);
    }

    fn lock(&self) -> MutexGuard<'_, Attempts> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Attempts {
    fn failures(&self, address: IpAddr, now: Instant) -> Option<Failures> {
        let found = self.by_address.get(&address).copied();
        found.filter(|f| now.saturating_duration_since(f.last) < FORGOTTEN)
    }

    /// Takes one attempt from what all addresses share.
    fn spend(&mut self, now: Instant) -> Result<(), Duration> {
        let passed = now.saturating_duration_since(self.counted);
        self.left = (self.left + passed.as_secs_f64() / REFILL.as_secs_f64()).min(BURST);
        self.counted = now;
        if self.left < 1.0 {
            return Err(REFILL.mul_f64(1.0 - self.left));
        }
        self.left -= 1.0;
        Ok(())
    }

    fn remember(&mut self, address: IpAddr, failures: Failures) {
        if self.by_address.len() >= MAX_ADDRESSES && !self.by_address.contains_key(&address) {
            let quiet = self.by_address.iter().min_by_key(|(_, f)| f.last).map(|(key, _)| *key);
            quiet.map(|key| self.by_address.remove(&key));
        }
        self.by_address.insert(address, failures);
    }
}

/// One second after the first failure too many, then twice as long each time.
fn wait_after(failures: u32) -> Duration {
    match failures.checked_sub(FREE) {
        None => Duration::ZERO,
        Some(beyond) => Duration::from_secs(1 << beyond.min(6)).min(LONGEST),
    }
}

/// An IPv6 customer owns a whole /64, so it counts as one address.
fn network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(v6) => IpAddr::V6((v6.to_bits() & !u128::from(u64::MAX)).into()),
        v4 => v4,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::{Ipv4Addr, Ipv6Addr};

    const SECOND: Duration = Duration::from_secs(1);

    fn address(number: u32) -> IpAddr {
        Ipv4Addr::from_bits(0x0a00_0000 + number).into()
    }

    #[test]
    fn waiting_grows_and_ends() {
        let start = Instant::now();
        let limiter = Limiter::new(start);
        for _ in 0..FREE {
            assert_eq!(limiter.begin(address(1), start), Ok(()));
        }
        let mut now = start;
        for seconds in [1, 2, 4, 8, 16, 32, 60, 60] {
            assert_eq!(limiter.begin(address(1), now), Err(seconds * SECOND));
            now += seconds * SECOND;
            assert_eq!(limiter.begin(address(1), now), Ok(()));
        }
        assert_eq!(limiter.begin(address(2), now), Ok(()), "others need not wait");
        assert_eq!(limiter.begin(address(1), now + FORGOTTEN), Ok(()));
        assert_eq!(limiter.begin(address(1), now + FORGOTTEN), Ok(()));
    }

    #[test]
    fn success_wipes_the_slate() {
        let start = Instant::now();
        let limiter = Limiter::new(start);
        for _ in 0..FREE {
            assert_eq!(limiter.begin(address(1), start), Ok(()));
        }
        limiter.succeeded(address(1));
        assert_eq!(limiter.begin(address(1), start), Ok(()));
    }

    #[test]
    fn all_addresses_together_have_a_bound() {
        let start = Instant::now();
        let limiter = Limiter::new(start);
        let allowed = |from: u32, now| {
            (from..from + 2000).filter(|&n| limiter.begin(address(n), now).is_ok()).count()
        };
        assert_eq!(allowed(0, start), BURST as usize);
        assert_eq!(allowed(5000, start + 10 * REFILL), 10);
    }

    #[test]
    fn the_table_of_addresses_has_a_bound() {
        let start = Instant::now();
        let limiter = Limiter::new(start);
        for number in 0..2 * MAX_ADDRESSES as u32 {
            assert!(limiter.begin(address(number), start + number * REFILL).is_ok());
        }
        assert_eq!(limiter.lock().by_address.len(), MAX_ADDRESSES);
    }

    #[test]
    fn neighbours_in_an_ipv6_network_are_one() {
        let [a, b, c] = [(1, 1), (1, 2), (2, 1)].map(|(network, host)| {
            IpAddr::from(Ipv6Addr::new(0x2001, 0xdb8, 0, network, 0, 0, 0, host))
        });
        assert_eq!(super::network(a), super::network(b));
        assert_ne!(super::network(a), super::network(c));
        assert_eq!(super::network("::ffff:10.0.0.1".parse().expect("one")), address(1));
    }
}
