//! The caller of a call, as handlers take it from their request.

use std::sync::Arc;

use tonic::Request;

use crate::auth::caller::Caller;

/// Returns the caller of a call.
pub fn caller<T>(request: &Request<T>) -> Arc<Caller> {
    let caller = request.extensions().get::<Arc<Caller>>();
    caller
        .expect("the middleware authenticates every call of our services")
        .clone()
}
