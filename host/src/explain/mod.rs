//! Reference Grad-CAM by autograd: the judge of the arithmetic that the device uses.

use models::cam::{self, CamError};
use models::label::Class;
use tch::{Kind, Tensor};

use crate::train::network::{Mode, Network, NetworkError};

/// A map and what it was made from.
#[derive(Clone, Debug)]
pub struct Reference {
    /// Raw logits in class order.
    pub logits: Vec<f32>,
    /// Weighted channel sum before ReLU, `[side, side]`.
    pub raw: Vec<f64>,
}

impl Reference {
    /// The map as the device shows it: ReLU, scaled, enlarged to the input's size.
    ///
    /// # Errors
    /// When the map is empty or flat.
    pub fn heat(&self, class: Class, side: usize) -> Result<Vec<f32>, CamError> {
        Ok(cam::enlarged(&cam::scaled(&self.raw, class)?, side))
    }
}

/// Grad-CAM of one class for an input `[1, 1, SIDE, SIDE]`, by differentiating the raw logit with
/// respect to the captured layer.
///
/// # Errors
/// When libtorch fails.
pub fn grad_cam(
    network: &Network,
    input: &Tensor,
    class: Class,
) -> Result<Reference, NetworkError> {
    let architecture = network.architecture();
    let last = architecture.nodes.len() - 1;
    let input = input.to_device(network.device());
    let features = tch::no_grad(|| network.forward(&input, 0, architecture.cam, Mode::Evaluate));
    let features = features.detach().set_requires_grad(true);
    let logits = network.forward(&features, architecture.cam, last, Mode::Evaluate);
    let score = logits.get(0).get(class.index() as i64);
    let gradient = Tensor::f_run_backward(&[score], &[&features], false, false)?;
    let weights = gradient[0].to_kind(Kind::Double).mean_dim(&[2i64, 3][..], true, None::<Kind>);
    let raw = (features.detach().to_kind(Kind::Double) * weights).sum_dim_intlist(
        &[1i64][..],
        false,
        None::<Kind>,
    );
    Ok(Reference {
        logits: Vec::try_from(logits.detach().flatten(0, -1))?,
        raw: Vec::try_from(raw.flatten(0, -1))?,
    })
}
