//! The steps of a tensor: `real = scale * (step - zero)`, steps from -128 to 127.

use tch::Tensor;

/// Scale and zero point of a tensor.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Affine {
    /// Real value of one step.
    pub scale: f32,
    /// The step that means 0.
    pub zero: i8,
}

impl Affine {
    /// Steps that cover a range and zero; behind a ReLU the zero point is -128, so that all
    /// 8 bits carry the positive range.
    pub fn covering([low, high]: [f32; 2]) -> Self {
        let (low, high) = (low.min(0.0), high.max(0.0));
        let scale = ((high - low) / 255.0).max(f32::MIN_POSITIVE * 1e6);
        Self { scale, zero: (-128.0 - low / scale).round().clamp(-128.0, 127.0) as i8 }
    }

    /// The values that a tensor has after a journey through steps.
    pub fn rounded(&self, tensor: &Tensor) -> Tensor {
        let zero = f64::from(self.zero);
        let steps = (tensor / f64::from(self.scale)).round().clamp(-128.0 - zero, 127.0 - zero);
        steps * f64::from(self.scale)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_relu_range_uses_all_steps() {
        assert_eq!(Affine::covering([0.0, 2.55]).zero, -128);
        assert_eq!(Affine::covering([-1.0, 1.55]).zero, -28);
    }

    #[test]
    fn rounding_keeps_values_within_half_a_step_and_clips_the_rest() {
        let affine = Affine::covering([-1.0, 1.55]);
        let values = Tensor::from_slice(&[-1.0f32, -0.004, 0.0, 0.777, 1.55, 9.0, -9.0]);
        let rounded: Vec<f32> = affine.rounded(&values).try_into().expect("floats");
        for (value, rounded) in [-1.0, -0.004, 0.0, 0.777, 1.55].iter().zip(&rounded) {
            assert!((value - rounded).abs() <= affine.scale * 0.5001, "{value} and {rounded}");
        }
        assert!((rounded[5] - 1.55).abs() < 1e-5 && (rounded[6] + 1.0).abs() < 1e-5);
    }
}
