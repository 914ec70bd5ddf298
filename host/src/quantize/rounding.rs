//! Which step each weight takes: the nearest, or the one that disturbs the layer's output least.
//!
//! Second-order rounding is GPTQ (Frantar et al. 2022, arXiv 2210.17323): weights are rounded one
//! input after the other, and each error is passed on to the inputs not yet rounded, weighed by how
//! inputs vary together. It minimises the same layer-wise output error as AdaRound (Nagel et al.
//! 2020, arXiv 2004.10568), in closed form instead of by gradient descent, and may move a weight by
//! more than one step.

use tch::{Kind, Tensor};

use crate::train::network::NetworkError;

/// Part of the mean diagonal added to the second moments, so that they can be inverted.
const DAMPING: f64 = 0.01;
/// Inputs rounded between two updates of the rest.
const BLOCK: i64 = 128;
/// Largest step of a weight; -128 is left out, so that the steps are symmetric.
pub const LARGEST: f64 = 127.0;

/// Weight steps `[outputs, inputs]` at the given scale per output, nearest to `weight`.
pub fn nearest(weight: &Tensor, scales: &Tensor) -> Tensor {
    (weight / scales.unsqueeze(1)).round().clamp(-LARGEST, LARGEST)
}

/// Weight steps `[outputs, inputs]` that keep the outputs of `weight` on inputs with the given
/// uncentred second moments `[inputs, inputs]`. An output whose error would be larger than with
/// [`nearest`] steps gets those.
///
/// # Errors
/// When libtorch fails.
pub fn second_order(
    weight: &Tensor,
    scales: &Tensor,
    second: &Tensor,
) -> Result<Tensor, NetworkError> {
    let kinds = |t: &Tensor| t.to_kind(Kind::Double);
    let (weight, scales, second) = (kinds(weight), kinds(scales), kinds(second));
    let plain = nearest(&weight, &scales);
    let diagonal = second.diagonal(0, 0, 1);
    // The inputs that matter most come first, while the others can still make up for them.
    let order = diagonal.argsort(0, true);
    let damping = diagonal.mean(Kind::Double) * DAMPING + 1e-12;
    let eye = Tensor::eye(second.size()[0], (Kind::Double, second.device()));
    let ordered = (&second + eye * damping).index_select(0, &order).index_select(1, &order);
    let inverse = ordered.f_linalg_cholesky(false)?.f_cholesky_inverse(false)?;
    let upper = inverse.f_linalg_cholesky(true)?;
    let rounded = passed_on(&weight.index_select(1, &order), &scales, &upper)?;
    let back = order.argsort(0, false);
    let rounded = rounded.index_select(1, &back);
    let better = output_error(&weight, &rounded, &scales, &second)
        .le_tensor(&output_error(&weight, &plain, &scales, &second));
    Ok(rounded.where_self(&better.unsqueeze(1), &plain))
}

/// Mean squared error of each output, `[outputs]`, for steps in the place of weights.
pub fn output_error(weight: &Tensor, steps: &Tensor, scales: &Tensor, second: &Tensor) -> Tensor {
    let gap = steps * scales.unsqueeze(1) - weight;
    (gap.matmul(second) * gap).sum_dim_intlist(&[1i64][..], false, None::<Kind>)
}

/// Rounds column after column and passes errors on to later ones; `upper` is the Cholesky factor
/// of the inverse second moments.
fn passed_on(weight: &Tensor, scales: &Tensor, upper: &Tensor) -> Result<Tensor, NetworkError> {
    let rest = weight.copy();
    let scales: Vec<f64> = Vec::try_from(scales.to_device(tch::Device::Cpu))?;
    let inputs = weight.size()[1];
    let mut blocks = Vec::new();
    for start in (0..inputs).step_by(BLOCK as usize) {
        let size = BLOCK.min(inputs - start);
        let of_block = upper.narrow(0, start, size);
        let mut values = doubles(&rest.narrow(1, start, size))?;
        let errors = round_block(&mut values, &scales, &doubles(&of_block.narrow(1, start, size))?);
        let shape = [scales.len() as i64, size];
        blocks.push(Tensor::from_slice(&values).view(shape).to_device(weight.device()));
        let behind = inputs - start - size;
        if behind > 0 {
            let errors = Tensor::from_slice(&errors).view(shape).to_device(weight.device());
            let moved = errors.matmul(&of_block.narrow(1, start + size, behind));
            let _ = rest.narrow(1, start + size, behind).f_sub_(&moved)?;
        }
    }
    Ok(Tensor::cat(&blocks, 1))
}

/// Turns the weights of a block into steps; returns what each rounding leaves to pass on.
fn round_block(values: &mut [f64], scales: &[f64], upper: &[f64]) -> Vec<f64> {
    let size = values.len() / scales.len();
    let mut errors = vec![0.0; values.len()];
    let rows = values.chunks_exact_mut(size).zip(errors.chunks_exact_mut(size));
    for ((row, errors), scale) in rows.zip(scales) {
        for at in 0..size {
            let step = (row[at] / scale).round().clamp(-LARGEST, LARGEST);
            errors[at] = (row[at] - step * scale) / upper[at * size + at];
            let later = &upper[at * size + at + 1..(at + 1) * size];
            let error = errors[at];
            row[at + 1..].iter_mut().zip(later).for_each(|(w, u)| *w -= error * u);
            row[at] = step;
        }
    }
    errors
}

fn doubles(tensor: &Tensor) -> Result<Vec<f64>, NetworkError> {
    Ok(Vec::try_from(tensor.to_device(tch::Device::Cpu).contiguous().flatten(0, -1))?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use tch::Device;

    /// Weights, scales and the second moments of inputs that vary together.
    fn layer(outputs: i64, inputs: i64, samples: i64) -> [Tensor; 3] {
        tch::manual_seed(11);
        let on_cpu = (Kind::Double, Device::Cpu);
        let weight = Tensor::randn([outputs, inputs], on_cpu);
        let mixed = Tensor::randn([samples, inputs], on_cpu)
            .matmul(&Tensor::randn([inputs, inputs], on_cpu));
        let second = mixed.tr().matmul(&mixed) / samples as f64;
        let scales = weight.abs().amax(&[1i64][..], false) / 7.0;
        [weight, scales, second]
    }

    #[test]
    fn it_is_never_worse_than_nearest_on_any_output_and_much_better_in_all() {
        // Fewer samples than inputs as well: the moments then have no inverse of their own.
        for samples in [40, 2_000] {
            let [weight, scales, second] = layer(16, 150, samples);
            let steps = second_order(&weight, &scales, &second).expect("rounds");
            let ours = output_error(&weight, &steps, &scales, &second);
            let plain = output_error(&weight, &nearest(&weight, &scales), &scales, &second);
            assert!(bool::try_from(ours.le_tensor(&(&plain * (1.0 + 1e-9))).all()).expect("bool"));
            let sum = |t: &Tensor| t.sum(Kind::Double).double_value(&[]);
            assert!(sum(&ours) < 0.5 * sum(&plain), "{} and {}", sum(&ours), sum(&plain));
        }
    }

    #[test]
    fn it_comes_close_to_the_best_of_all_neighbouring_steps() {
        let [weight, scales, second] = layer(4, 6, 500);
        let steps = second_order(&weight, &scales, &second).expect("rounds");
        let ours: Vec<f64> =
            output_error(&weight, &steps, &scales, &second).try_into().expect("floats");
        let below = (&weight / scales.unsqueeze(1)).floor();
        let mut best = [f64::INFINITY; 4];
        for choice in 0..64i64 {
            let up: Vec<f64> = (0..6).map(|bit| (choice >> bit & 1) as f64).collect();
            let candidate = (&below + Tensor::from_slice(&up)).clamp(-LARGEST, LARGEST);
            let errors: Vec<f64> =
                output_error(&weight, &candidate, &scales, &second).try_into().expect("floats");
            best.iter_mut().zip(errors).for_each(|(b, e)| *b = b.min(e));
        }
        let (ours, best): (f64, f64) = (ours.iter().sum(), best.iter().sum());
        assert!(ours <= 2.5 * best, "{ours} against {best}");
    }

    #[test]
    fn independent_inputs_take_the_nearest_steps() {
        let [weight, scales, _] = layer(3, 20, 10);
        let second = Tensor::eye(20, (Kind::Double, Device::Cpu));
        let steps = second_order(&weight, &scales, &second).expect("rounds");
        assert!(steps.equal(&nearest(&weight, &scales)));
    }
}
