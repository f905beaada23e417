//! Callers of the service: who creates what, and over which connection.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use care_invitation::contract::v1;
use care_invitation::contract::v1::booking_request_service_client::BookingRequestServiceClient;
use tonic::transport::Channel;

use crate::make::{self, Period, UNITS};
use crate::server::Server;
use crate::{Outcome, load};

/// How many callers fill a database: many, so that it is soon done.
pub const FILLERS: usize = 256;

/// A call under way.
pub type Calling = std::pin::Pin<Box<dyn Future<Output = Outcome<()>> + Send>>;

/// Callers who create invitations, none twice.
#[derive(Clone)]
pub struct Callers {
    clients: Arc<Vec<BookingRequestServiceClient<Channel>>>,
    next: Arc<AtomicU64>,
}

impl Callers {
    /// So many callers, on their connections.
    pub async fn connect(server: &Server, callers: usize) -> Outcome<Self> {
        let channels = server.channels(callers).await?;
        let clients = channels.into_iter().map(BookingRequestServiceClient::new);
        Ok(Self {
            clients: Arc::new(clients.collect()),
            next: Arc::default(),
        })
    }

    /// Begins with this number, for a database that has those before.
    pub fn beginning_at(self, number: u64) -> Self {
        self.next.store(number, Ordering::Relaxed);
        self
    }

    /// The number of the next invitation.
    pub fn next(&self) -> u64 {
        self.next.fetch_add(1, Ordering::Relaxed)
    }

    /// The client of a caller.
    pub fn client(&self, caller: usize) -> BookingRequestServiceClient<Channel> {
        self.clients[caller % self.clients.len()].clone()
    }

    /// The call that creates the next invitation, in the next of so many care units.
    pub fn create(
        &self,
        units: u64,
        period: Period,
    ) -> impl Fn(usize) -> Calling + Clone + Send + Sync + 'static {
        let callers = self.clone();
        move |caller| {
            let mut client = callers.client(caller);
            let number = callers.next();
            let call = make::create(make::unit_name(number % units), number, period);
            Box::pin(async move {
                client.create_booking_request(call).await?;
                Ok(())
            })
        }
    }

    /// The call that creates the next invitations, so many at once, in the next of so many care units each.
    pub fn create_batch(
        &self,
        size: u64,
        units: u64,
        period: Period,
    ) -> impl Fn(usize) -> Calling + Clone + Send + Sync + 'static {
        let callers = self.clone();
        move |caller| {
            let mut client = callers.client(caller);
            let first = callers.next.fetch_add(size, Ordering::Relaxed);
            let create = |number| make::create(make::unit_name(number % units), number, period);
            let call = v1::BatchCreateBookingRequestsRequest {
                requests: (first..first + size).map(create).collect(),
            };
            Box::pin(async move {
                let answer = client.batch_create_booking_requests(call).await?;
                let mut results = answer.into_inner().results.into_iter();
                match results.find_map(|it| it.error) {
                    Some(error) => Err(error.message.into()),
                    None => Ok(()),
                }
            })
        }
    }

    /// Creates so many invitations as fast as may be, in several care units. Gives their names.
    pub async fn fill(&self, count: usize, period: Period) -> Outcome<Vec<String>> {
        let names = Arc::new(Mutex::new(Vec::with_capacity(count)));
        let (callers, named) = (self.clone(), Arc::clone(&names));
        let create = move |number: usize| {
            let (mut client, named) = (callers.client(number), Arc::clone(&named));
            let number = number as u64;
            let call = make::create(make::unit_name(number % UNITS), number, period);
            async move {
                let answer = client.create_booking_request(call).await?.into_inner();
                let request = answer.booking_request.ok_or("there is a request")?;
                named
                    .lock()
                    .map_err(|_| "a caller panicked")?
                    .push(request.name);
                Ok(())
            }
        };
        load::each(count, FILLERS, create).await?;
        let names = names.lock().map_err(|_| "a caller panicked")?.clone();
        Ok(names)
    }
}
