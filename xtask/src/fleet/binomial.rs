//! What a number of failures says about a rate: the binomial distribution and Clopper and
//! Pearson's exact bounds (1934).

/// Halvings of the interval in which a bound is searched: to the last digits of a float.
const HALVINGS: u32 = 60;

/// The probability of at most `failed` failures among `all`, each with probability `rate`.
pub fn at_most(failed: u32, all: u32, rate: f64) -> f64 {
    if failed >= all || rate <= 0.0 {
        return 1.0;
    }
    if rate >= 1.0 {
        return 0.0;
    }
    let odds = (rate / (1.0 - rate)).ln();
    // Logarithms, because thousands of factors leave the range of floats.
    let mut term = f64::from(all) * (-rate).ln_1p();
    let mut sum = term.exp();
    for i in 0..failed {
        term += (f64::from(all - i) / f64::from(i + 1)).ln() + odds;
        sum += term.exp();
    }
    sum.min(1.0)
}

/// A rate that is exceeded with a probability of at most `error`, after `failed` of `all` failed.
pub fn upper(failed: u32, all: u32, error: f64) -> f64 {
    if failed >= all {
        return 1.0;
    }
    root(|rate| at_most(failed, all, rate) > error)
}

/// A rate that is undercut with a probability of at most `error`, after `failed` of `all` failed.
pub fn lower(failed: u32, all: u32, error: f64) -> f64 {
    if failed == 0 {
        return 0.0;
    }
    root(|rate| 1.0 - at_most(failed - 1, all, rate) < error)
}

/// Where `is_below` turns false between 0 and 1.
fn root(is_below: impl Fn(f64) -> bool) -> f64 {
    let (mut low, mut high) = (0.0, 1.0);
    for _ in 0..HALVINGS {
        let middle = f64::midpoint(low, high);
        if is_below(middle) {
            low = middle;
        } else {
            high = middle;
        }
    }
    f64::midpoint(low, high)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(found: f64, expected: f64) {
        assert!((found - expected).abs() < 1e-6, "{found} {expected}");
    }

    #[test]
    fn the_distribution_is_exact() {
        check(at_most(0, 10, 0.5), 1.0 / 1024.0);
        check(at_most(1, 10, 0.5), 11.0 / 1024.0);
        check(at_most(2, 3, 0.2), 1.0 - 0.008);
        check(at_most(5, 5, 0.9), 1.0);
        check(at_most(3, 9, 0.0), 1.0);
        check(at_most(3, 9, 1.0), 0.0);
        check(at_most(4_999, 10_000, 0.5), 0.5 - 0.5 * 0.007_978_646);
    }

    #[test]
    fn bounds_are_those_of_the_tables() {
        check(upper(0, 100, 0.05), 1.0 - 0.05_f64.powf(0.01));
        check(upper(5, 10, 0.025), 0.812_914);
        check(lower(5, 10, 0.025), 0.187_086);
        check(upper(1, 10, 0.05), 0.394_163);
        check(lower(10, 10, 0.05), 0.05_f64.powf(0.1));
        check(upper(10, 10, 0.05), 1.0);
        check(lower(0, 10, 0.05), 0.0);
    }

    #[test]
    fn more_failures_raise_both_bounds() {
        for failed in 0..20 {
            assert!(upper(failed, 20, 0.05) <= upper(failed + 1, 20, 0.05));
            assert!(lower(failed, 20, 0.05) < lower(failed + 1, 20, 0.05));
            assert!(lower(failed, 20, 0.05) < upper(failed, 20, 0.05));
        }
    }
}
