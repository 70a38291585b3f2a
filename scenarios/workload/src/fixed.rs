//! Logarithm, power and exponential gaps in fixed point: the same bits on every platform, no float and no libm.

#![expect(
    clippy::cast_possible_truncation,
    reason = "every cast follows a shift that leaves as many bits as the target has"
)]

/// Bits behind the point.
pub const FRACTION_BITS: u32 = 32;
/// One.
pub const ONE: u64 = 1 << FRACTION_BITS;

const TABLE_BITS: u32 = 10;
const TABLE_LEN: usize = 1 << TABLE_BITS;

/// ln 2 in Q32.
const LN_2: u64 = 2_977_044_472;

/// log2(1 + i / 1024) in Q32.
static LOG_2: [u64; TABLE_LEN + 1] = log_2_table();
/// 2^(i / 1024) in Q32.
static EXP_2: [u64; TABLE_LEN + 1] = exp_2_table();

/// Squares the mantissa bit by bit; exact to the last bit of Q32 but for rounding.
const fn log_2_mantissa(mut x_q62: u64) -> u64 {
    let mut result = 0_u64;
    let mut bit = 0;
    while bit < FRACTION_BITS {
        let square = ((x_q62 as u128 * x_q62 as u128) >> 62) as u64;
        result <<= 1;
        if square >= 1 << 63 {
            result |= 1;
            x_q62 = square >> 1;
        } else {
            x_q62 = square;
        }
        bit += 1;
    }
    result
}

const fn log_2_table() -> [u64; TABLE_LEN + 1] {
    let mut table = [0; TABLE_LEN + 1];
    let mut i = 0;
    while i < TABLE_LEN {
        table[i] = log_2_mantissa((1 << 62) + ((i as u64) << (62 - TABLE_BITS)));
        i += 1;
    }
    table[TABLE_LEN] = ONE;
    table
}

const fn root(square: u128) -> u128 {
    // Newton's method from above ends at the floor of the root.
    let mut x: u128 = 1 << 64;
    loop {
        let next = x.midpoint(square / x);
        if next >= x {
            return x;
        }
        x = next;
    }
}

const fn exp_2_table() -> [u64; TABLE_LEN + 1] {
    // roots[j] = 2^(2^-(j+1)) in Q62; every entry is a product of the roots of its bits.
    let mut roots = [0_u64; TABLE_BITS as usize];
    let mut value: u128 = 2 << 62;
    let mut j = 0;
    while j < TABLE_BITS as usize {
        value = root(value << 62);
        roots[j] = value as u64;
        j += 1;
    }
    let mut table = [0; TABLE_LEN + 1];
    let mut i = 0;
    while i < TABLE_LEN {
        let mut product: u128 = 1 << 62;
        let mut bit = 0;
        while bit < TABLE_BITS as usize {
            if i >> (TABLE_BITS as usize - 1 - bit) & 1 == 1 {
                product = (product * roots[bit] as u128) >> 62;
            }
            bit += 1;
        }
        table[i] = (product >> (62 - FRACTION_BITS)) as u64;
        i += 1;
    }
    table[TABLE_LEN] = 2 * ONE;
    table
}

/// Table value with linear interpolation; `fraction` is Q32 below one.
#[inline]
fn interpolate(table: &[u64; TABLE_LEN + 1], fraction: u64) -> u64 {
    let index = (fraction >> (FRACTION_BITS - TABLE_BITS)) as usize;
    let rest = fraction & ((1 << (FRACTION_BITS - TABLE_BITS)) - 1);
    let (low, high) = (table[index], table[index + 1]);
    low + (((high - low) * rest) >> (FRACTION_BITS - TABLE_BITS))
}

/// log2 of a whole number from 1 up, in Q32.
#[inline]
pub fn log_2(n: u64) -> u64 {
    debug_assert!(n > 0, "zero has no logarithm");
    let exponent = n.ilog2();
    let mantissa = n << (63 - exponent);
    let fraction = (mantissa << 1) >> (64 - FRACTION_BITS);
    (u64::from(exponent) << FRACTION_BITS) + interpolate(&LOG_2, fraction)
}

/// `base * 2^exponent` for a signed Q32 exponent, saturating, at least 0.
#[inline]
pub fn scale_exp_2(base: u64, exponent_q32: i64) -> u64 {
    let whole = exponent_q32 >> FRACTION_BITS;
    let fraction = (exponent_q32 & ((1 << FRACTION_BITS) - 1)).unsigned_abs();
    let scaled = u128::from(base) * u128::from(interpolate(&EXP_2, fraction));
    let shift = i64::from(FRACTION_BITS) - whole;
    if shift >= 128 {
        0
    } else if shift >= 0 {
        u64::try_from(scaled >> shift).unwrap_or(u64::MAX)
    } else if shift > -64 && scaled.leading_zeros() > shift.unsigned_abs() as u32 {
        u64::try_from(scaled << shift.unsigned_abs()).unwrap_or(u64::MAX)
    } else {
        u64::MAX
    }
}

/// A standard exponential from 64 uniform bits: `-ln(u)` in Q32, with u in (0, 1].
#[inline]
pub fn exponential(uniform: u64) -> u64 {
    // u = (uniform + 1) / 2^64, without overflow at the top.
    let u = uniform.saturating_add(1);
    let log = (64 << FRACTION_BITS) - log_2(u);
    // The product needs 39 + 32 bits at most.
    ((u128::from(log) * u128::from(LN_2)) >> FRACTION_BITS) as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[expect(clippy::cast_precision_loss, reason = "compared with float functions")]
    fn logarithm_and_power_agree_with_float_functions() {
        for n in [1_u64, 2, 3, 7, 150, 1_000, 123_456_789, u64::MAX / 3] {
            let ours = log_2(n) as f64 / ONE as f64;
            assert!((ours - (n as f64).log2()).abs() < 2e-7, "{n}: {ours}");
        }
        for exponent in [-3.7_f64, -1.0, -0.25, 0.0, 0.5, 1.99, 8.123] {
            #[expect(clippy::cast_possible_truncation, reason = "small test values")]
            let q32 = (exponent * ONE as f64) as i64;
            let ours = scale_exp_2(1_000_000_000, q32) as f64;
            let theirs = 1e9 * exponent.exp2();
            assert!((ours / theirs - 1.0).abs() < 1e-6, "{exponent}: {ours} {theirs}");
        }
        assert_eq!(scale_exp_2(1, 70 << 32), u64::MAX);
        assert_eq!(scale_exp_2(1 << 40, -(200 << 32)), 0);
    }

    #[test]
    fn exponential_of_the_smallest_and_largest_draw_is_finite() {
        assert_eq!(exponential(u64::MAX), 0);
        assert_eq!(exponential(0) >> FRACTION_BITS, 44);
    }
}
