//! Two services behind one port: by the path of a request, gRPC's way. A router brings a web framework along for that.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};

use sluice_proto::pb::delivery_server::DeliveryServer;
use sluice_proto::pb::enrolment_server::EnrolmentServer;
use tonic::body::Body;
use tonic::codegen::Service;
use tonic::server::NamedService;

use super::Desk;
use crate::enrol::Enrolment;

/// See the file's comment.
#[derive(Clone, Debug)]
pub(super) struct Services {
    /// Also answers for what neither knows.
    pub(super) delivery: DeliveryServer<Desk>,
    pub(super) enrolment: EnrolmentServer<Enrolment>,
}

impl Service<http::Request<Body>> for Services {
    type Response = http::Response<Body>;
    type Error = std::convert::Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Self::Error>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        Poll::Ready(Ok(())) // as both are, always
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        let service = request.uri().path().split('/').nth(1);
        if service == Some(EnrolmentServer::<Enrolment>::NAME) {
            self.enrolment.call(request)
        } else {
            self.delivery.call(request)
        }
    }
}
