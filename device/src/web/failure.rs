//! Why a request has no good answer, and what its page says.

use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};

use super::BoardError;
use super::pages::message;
use super::random::NoRandomness;

/// Why a request has no good answer. None quotes the request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Failure {
    /// There is nothing at this address.
    #[error("nothing here")]
    NotFound,
    /// Nobody is signed in.
    #[error("not signed in")]
    SignedOut,
    /// The form was not made for this session.
    #[error("an outdated form")]
    Csrf,
    /// The form is too long or incomplete.
    #[error("an unusable form")]
    Form,
    /// The scan cannot do this now.
    #[error("out of turn")]
    OutOfTurn,
    /// The board could not store the change.
    #[error("not stored")]
    Storage,
    /// Too many pages are open.
    #[error("too many open pages")]
    Busy,
    /// The board took too long.
    #[error("too slow")]
    Slow,
    /// Something that must not happen.
    #[error("broken")]
    Broken,
}

impl From<BoardError> for Failure {
    fn from(error: BoardError) -> Self {
        match error {
            BoardError::Unknown => Failure::NotFound,
            BoardError::OutOfTurn => Failure::OutOfTurn,
            BoardError::Storage => Failure::Storage,
        }
    }
}

impl From<NoRandomness> for Failure {
    fn from(_: NoRandomness) -> Self {
        Failure::Broken
    }
}

impl IntoResponse for Failure {
    fn into_response(self) -> Response {
        let (status, title, advice) = match self {
            Failure::NotFound => (
                StatusCode::NOT_FOUND,
                "Nothing here",
                "The scan may have been removed at the end of its time.",
            ),
            Failure::SignedOut => {
                (StatusCode::UNAUTHORIZED, "Not signed in", "Sign in and try again.")
            }
            Failure::Csrf => (
                StatusCode::FORBIDDEN,
                "Nothing was changed",
                "This form was not made for your session. Go back, reload the page and try again.",
            ),
            Failure::Form => (
                StatusCode::BAD_REQUEST,
                "Nothing was changed",
                "The form did not arrive whole. Go back and try again.",
            ),
            Failure::OutOfTurn => (
                StatusCode::CONFLICT,
                "Nothing was changed",
                "The scan has moved on. Go back and reload the page.",
            ),
            Failure::Storage => (
                StatusCode::INTERNAL_SERVER_ERROR,
                "Nothing was changed",
                "The board could not store the change. See the health page.",
            ),
            Failure::Busy => (
                StatusCode::SERVICE_UNAVAILABLE,
                "Too many open pages",
                "This page is not kept up to date until another one is closed.",
            ),
            Failure::Slow => (
                StatusCode::SERVICE_UNAVAILABLE,
                "The board is busy",
                "It did not answer in time. Try again in a moment.",
            ),
            Failure::Broken => (
                StatusCode::INTERNAL_SERVER_ERROR,
                "Something went wrong",
                "The board could not answer. See the health page.",
            ),
        };
        (status, message::page(title, advice)).into_response()
    }
}
