//! Clients that ask at a steady rate, in both families: on the segment for a Service of it, and behind the router for one
//! that is routed.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use anyhow::{Result, ensure};
use kit::Duration;
use lab::Host;
use lab::requests::{Outage, Outcome, Pace, RequestStream, outages};
use netio::clock::Clock;

use crate::site::{ROUTED, SEGMENT, SERVICE_PORT, Site};

/// Twenty requests a second. A request that takes longer than this is lost: the kernel sends a lost SYN again after 1 s.
const PACE: Pace = Pace { every: Duration::from_millis(50), timeout: Duration::from_millis(900) };

/// A machine that is busy with other things can hold up a few requests; whatever is withdrawn or not answered for is away
/// for longer than that.
pub(crate) const HICCUP: Duration = Duration::from_secs(2);

/// Requests that are under way.
pub(crate) struct Traffic {
    streams: Vec<(String, RequestStream)>,
}

/// What became of the requests of one client.
#[derive(Debug)]
pub(crate) struct Report {
    client: String,
    asked: usize,
    failed: BTreeMap<String, usize>,
    longest: Duration,
}

impl Traffic {
    /// Begins to ask Service `lan` from the segment.
    pub(crate) fn on_the_segment(site: &Site) -> Result<Traffic> {
        Traffic::start(&[(&site.client, SEGMENT)])
    }

    /// Begins to ask Service `routed` from behind the router.
    pub(crate) fn behind_the_router(site: &Site) -> Result<Traffic> {
        Traffic::start(&[(&site.far_client, ROUTED)])
    }

    /// Begins to do both.
    pub(crate) fn everywhere(site: &Site) -> Result<Traffic> {
        Traffic::start(&[(&site.client, SEGMENT), (&site.far_client, ROUTED)])
    }

    fn start(clients: &[(&Host, [&str; 2])]) -> Result<Traffic> {
        let clock = Clock::start();
        let mut streams = Vec::new();
        for (client, addresses) in clients {
            for address in addresses {
                let service = SocketAddr::new(address.parse()?, SERVICE_PORT);
                let name = format!("{} to {address}", client.name());
                streams.push((name, RequestStream::start(client, service, PACE, clock)?));
            }
        }
        Ok(Traffic { streams })
    }

    /// Ends the requests, and fails when nobody answered a client for longer than `limit`.
    pub(crate) fn finish(self, what: &str, limit: Duration) -> Result<()> {
        for (client, stream) in self.streams {
            let records = stream.stop()?;
            let mut failed: BTreeMap<String, usize> = BTreeMap::new();
            for record in &records {
                if let Outcome::Failed(why) = &record.outcome {
                    *failed.entry(why.clone()).or_default() += 1;
                }
            }
            let longest = outages(&records).iter().map(Outage::length).max().unwrap_or(Duration::ZERO);
            let report = Report { client, asked: records.len(), failed, longest };
            eprintln!(
                "measured ({what}): {}: {} requests, failed {:?}, longest outage {} ms",
                report.client,
                report.asked,
                report.failed,
                report.longest.as_millis()
            );
            ensure!(
                report.asked > 0 && report.longest <= limit,
                "{what}: more than {limit} without answer: {report:?}"
            );
        }
        Ok(())
    }
}
