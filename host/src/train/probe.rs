//! The classifier of feature extraction: multinomial logistic regression on frozen features.
//!
//! Features are standardised on the training images, the loss is the class-weighted cross-entropy
//! with an L2 penalty (scikit-learn's `LogisticRegression`, C = 1), minimised in full batches; the
//! standardisation is then folded into the returned weights.

use models::label;
use tch::{Kind, Reduction, Tensor};

const STEPS: usize = 600;
const LEARNING_RATE: f64 = 0.02;
const PENALTY: f64 = 1.0;

/// Weight `[classes, features]` and bias `[classes]` fitted to features `[count, features]`.
pub fn fitted(features: &Tensor, labels: &Tensor, class_weights: &Tensor) -> (Tensor, Tensor) {
    let (count, width) = features.size2().unwrap_or((1, 1));
    let mean = features.mean_dim(&[0i64][..], true, None::<Kind>);
    let deviation = features.std_dim(&[0i64][..], true, true).clamp_min(1e-6);
    let standard = (features - &mean) / &deviation;
    let options = (Kind::Float, features.device());
    let weight = Tensor::zeros([label::COUNT as i64, width], options).set_requires_grad(true);
    let bias = Tensor::zeros([label::COUNT as i64], options).set_requires_grad(true);
    let mut moments: Vec<(Tensor, Tensor)> =
        [&weight, &bias].map(|t| (t.zeros_like(), t.zeros_like())).into();
    for step in 1..=STEPS {
        let loss = standard.linear(&weight, Some(&bias)).cross_entropy_loss(
            labels,
            Some(class_weights),
            Reduction::Mean,
            -100,
            0.0,
        ) + weight.square().sum(Kind::Float) * (0.5 * PENALTY / count as f64);
        let gradients = Tensor::run_backward(&[loss], &[&weight, &bias], false, false);
        let rate =
            LEARNING_RATE * 0.5 * (1.0 + (std::f64::consts::PI * step as f64 / STEPS as f64).cos());
        tch::no_grad(|| {
            for ((tensor, gradient), (first, second)) in
                [&weight, &bias].into_iter().zip(&gradients).zip(&mut moments)
            {
                *first = &*first * 0.9 + gradient * 0.1;
                *second = &*second * 0.99 + gradient.square() * 0.01;
                let scale = (&*second / (1.0 - 0.99f64.powi(step as i32))).sqrt() + 1e-8;
                let mut tensor = tensor.shallow_clone();
                tensor -= &*first / scale * (rate / (1.0 - 0.9f64.powi(step as i32)));
            }
        });
    }
    let folded = (weight / &deviation).detach();
    let offset = (bias - folded.matmul(&mean.view([width]))).detach();
    (folded, offset)
}

#[cfg(test)]
mod tests {
    use super::*;
    use tch::Device;

    #[test]
    fn separable_classes_are_separated() {
        tch::manual_seed(3);
        let labels = Tensor::arange(90, (Kind::Int64, Device::Cpu)).remainder(3);
        let centres = Tensor::eye(3, (Kind::Float, Device::Cpu)).index_select(0, &labels) * 5.0;
        let features = centres + Tensor::randn([90, 3], (Kind::Float, Device::Cpu)) + 100.0;
        let (weight, bias) =
            fitted(&features, &labels, &Tensor::ones([3], (Kind::Float, Device::Cpu)));
        let hits = features.linear(&weight, Some(&bias)).argmax(1, false).eq_tensor(&labels);
        assert!(hits.sum(Kind::Int64).int64_value(&[]) >= 88);
    }
}
