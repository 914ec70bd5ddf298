//! AdamW (Loshchilov and Hutter 2019, arXiv 1711.05101) with a state that can be saved, so that a
//! resumed run continues exactly.

use std::collections::BTreeMap;

use tch::Tensor;

use super::network::{Network, NetworkError};

const BETA1: f64 = 0.9;
const BETA2: f64 = 0.999;
const EPSILON: f64 = 1e-8;

/// First and second moments of every learnt tensor.
pub struct AdamW {
    names: Vec<String>,
    weight_decay: f64,
    step: i64,
    moments: BTreeMap<String, (Tensor, Tensor)>,
}

impl AdamW {
    /// Starts learning the named tensors of a network. Only weights of two or more dimensions
    /// decay; biases and normalisation scales do not.
    ///
    /// # Errors
    /// When the network lacks one of the names.
    pub fn new(
        network: &Network,
        names: Vec<String>,
        weight_decay: f64,
    ) -> Result<Self, NetworkError> {
        let mut moments = BTreeMap::new();
        for name in &names {
            let tensor = network.tensor(name)?;
            let _ = tensor.set_requires_grad(true);
            moments.insert(name.clone(), (tensor.zeros_like(), tensor.zeros_like()));
        }
        Ok(Self { names, weight_decay, step: 0, moments })
    }

    /// Backpropagates `loss` and moves the tensors against its gradient.
    ///
    /// # Errors
    /// When libtorch fails.
    pub fn minimise(
        &mut self,
        network: &Network,
        loss: &Tensor,
        learning_rate: f64,
    ) -> Result<(), NetworkError> {
        loss.f_backward()?;
        self.step += 1;
        let correction1 = 1.0 - BETA1.powi(self.step as i32);
        let correction2 = 1.0 - BETA2.powi(self.step as i32);
        tch::no_grad(|| {
            for name in &self.names {
                let mut tensor = network.tensor(name)?.shallow_clone();
                let mut gradient = tensor.grad();
                let Some((first, second)) = self.moments.get_mut(name) else { continue };
                if !gradient.defined() {
                    continue;
                }
                *first *= BETA1;
                *first += &gradient * (1.0 - BETA1);
                *second *= BETA2;
                *second += gradient.square() * (1.0 - BETA2);
                if tensor.dim() > 1 {
                    tensor *= 1.0 - learning_rate * self.weight_decay;
                }
                let scale = (&*second / correction2).sqrt_() + EPSILON;
                tensor -= (&*first / scale) * (learning_rate / correction1);
                let _ = gradient.f_zero_()?;
            }
            Ok(())
        })
    }

    /// The state as named tensors, beside the network's own.
    pub fn state(&self) -> Vec<(String, Tensor)> {
        let mut state = vec![("step".to_string(), Tensor::from_slice(&[self.step]))];
        for (name, (first, second)) in &self.moments {
            state.push((format!("first.{name}"), first.to_device(tch::Device::Cpu)));
            state.push((format!("second.{name}"), second.to_device(tch::Device::Cpu)));
        }
        state
    }

    /// Takes up a saved state.
    ///
    /// # Errors
    /// When a part of it is absent.
    pub fn restore(&mut self, state: &BTreeMap<String, Tensor>) -> Result<(), NetworkError> {
        let part =
            |name: String| state.get(&name).map(Tensor::copy).ok_or(NetworkError::Missing(name));
        self.step = part("step".into())?.f_int64_value(&[0])?;
        for (name, (first, second)) in &mut self.moments {
            let device = first.device();
            *first = part(format!("first.{name}"))?.to_device(device);
            *second = part(format!("second.{name}"))?.to_device(device);
        }
        Ok(())
    }
}
