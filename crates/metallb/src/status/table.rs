//! The answer as text for people: one line for each session, or everything about one peer.

use std::fmt::Write as _;

use comfy_table::{Table, presets};
use jiff::Timestamp;

use super::model::{BfdStatus, Counts, Ending, PeerStatus, SessionStatus, Status};

/// All peers and sessions of BFD.
pub(super) fn overview(status: &Status) -> String {
    let mut text = format!("node {} at {}\n\n", status.speaker.node, status.speaker.time);
    if status.peers.is_empty() {
        text.push_str("no BGP sessions: no BGPPeer selects this node\n");
        return text;
    }
    let mut table = table(&["PEER", "ROUTER", "AS", "STATE", "FOR", "ROUTES", "BFD", "WHY"]);
    for peer in &status.peers {
        let (announced, wanted) = peer
            .families
            .iter()
            .fold((0_usize, 0_usize), |(a, w), it| (a.saturating_add(it.announced), w.saturating_add(it.wanted)));
        table.add_row([
            peer.name.clone(),
            router(peer),
            peer.remote_as.clone(),
            peer.state.clone(),
            peer.since.as_deref().map(|since| age(status, since)).unwrap_or_default(),
            format!("{announced}/{wanted}"),
            peer.bfd.clone().unwrap_or_else(|| "-".to_owned()),
            why(status, peer),
        ]);
    }
    push(&mut text, &table);
    bfd_overview(&mut text, status);
    text
}

/// Everything about the peers in an answer, with their routes.
pub(super) fn details(status: &Status) -> String {
    let mut text = format!("node {} at {}\n", status.speaker.node, status.speaker.time);
    for peer in &status.peers {
        let _ = writeln!(text, "\nBGPPeer {}", peer.name);
        facts(&mut text, &peer_facts(status, peer));
        for session in status.bfd.iter().filter(|session| session.peers.contains(&peer.name)) {
            text.push_str("\nBFD\n");
            facts(&mut text, &bfd_facts(status, session));
        }
        routes(&mut text, peer);
    }
    text
}

/// Facts by name, in columns. What is empty is left out.
fn facts(text: &mut String, facts: &[(&str, String)]) {
    for (name, value) in facts.iter().filter(|(_, value)| !value.is_empty()) {
        let _ = writeln!(text, "  {name:<22}{value}");
    }
}

fn peer_facts(status: &Status, peer: &PeerStatus) -> Vec<(&'static str, String)> {
    let ending = |ending: &Ending| format!("{} ago ({}): {}", age(status, &ending.time), ending.time, ending.reason);
    let mut facts = vec![
        ("router", format!("{}, AS {}", router(peer), peer.remote_as)),
        ("our AS", peer.local_as.to_string()),
        ("state", state(status, &peer.state, peer.since.as_deref())),
        ("waits for", peer.waits_for.clone().unwrap_or_default()),
        ("next attempt", peer.next_attempt.clone().unwrap_or_default()),
        ("failed attempts", if peer.failed_attempts == 0 { String::new() } else { peer.failed_attempts.to_string() }),
        ("sessions so far", peer.established.to_string()),
        ("went down last", peer.last_down.as_ref().map(ending).unwrap_or_default()),
        ("last NOTIFICATION", peer.last_notification.as_ref().map(ending).unwrap_or_default()),
    ];
    facts.extend(peer.session.iter().flat_map(session_facts));
    let (sent, received) = (&peer.messages.sent, &peer.messages.received);
    facts.push(("messages sent", counts(sent)));
    facts.push(("messages received", counts(received)));
    let errors = [
        (peer.messages.updates_treated_as_withdraw, "UPDATEs taken as withdrawals"),
        (peer.messages.attributes_discarded, "attributes ignored"),
    ];
    let errors = errors.iter().filter(|(count, _)| *count > 0).map(|(count, what)| format!("{count} {what}"));
    facts.push(("errors received", errors.collect::<Vec<_>>().join(", ")));
    for family in &peer.families {
        let blocked = family.blocked.as_deref().map(|why| format!(": {why}")).unwrap_or_default();
        let name = if family.family == "IPv4" { "IPv4 routes" } else { "IPv6 routes" };
        facts.push((name, format!("{} of {} announced{blocked}", family.announced, family.wanted)));
    }
    let profile = |profile: &String| format!("{}, profile {profile}", peer.bfd.as_deref().unwrap_or("Down"));
    facts.push(("BFD", peer.bfd_profile.as_ref().map(profile).unwrap_or_default()));
    facts
}

fn session_facts(session: &SessionStatus) -> Vec<(&'static str, String)> {
    let keepalive = session.keepalive_time_seconds.map(|secs| format!(", keepalive {secs}s")).unwrap_or_default();
    let hold = match session.hold_time_seconds {
        0 => "no hold time".to_owned(),
        secs => format!("hold {secs}s"),
    };
    vec![
        ("our end", format!("{}, identifier {}", session.local, session.local_router_id)),
        (
            "router's end",
            format!("{}, identifier {}, AS {}", session.remote, session.remote_router_id, session.remote_as),
        ),
        ("timers", format!("{hold}{keepalive}")),
        (
            "when we restart",
            if session.keeps_routes { "the router keeps our routes" } else { "our routes go" }.to_owned(),
        ),
        ("capabilities sent", session.capabilities_sent.join("; ")),
        ("capabilities received", session.capabilities_received.join("; ")),
    ]
}

fn counts(counts: &Counts) -> String {
    let Counts { opens, updates, notifications, keepalives, route_refreshes } = counts;
    format!(
        "OPEN {opens}, UPDATE {updates}, NOTIFICATION {notifications}, KEEPALIVE {keepalives}, ROUTE-REFRESH {route_refreshes}"
    )
}

fn bfd_facts(status: &Status, session: &BfdStatus) -> Vec<(&'static str, String)> {
    let local = session.local.as_deref().map(|local| format!(" from {local}")).unwrap_or_default();
    let interface = session.interface.as_deref().map(|name| format!(" on {name}")).unwrap_or_default();
    let remote = session.remote_state.as_deref().map_or_else(
        || "not heard".to_owned(),
        |state| format!("{state}, diagnostic: {}", session.remote_diagnostic.as_deref().unwrap_or_default()),
    );
    let millis = |millis: Option<f64>| millis.map_or_else(|| "none".to_owned(), |millis| format!("{millis} ms"));
    vec![
        ("path", format!("{}{local}{interface}, {} hop", session.remote, session.hops)),
        ("state", state(status, &session.state, Some(&session.since))),
        ("router's state", remote),
        ("went down last", session.last_down.clone().unwrap_or_default()),
        ("our packets every", millis(session.transmit_interval_ms)),
        ("router silent for", format!("{} at most", millis(session.detection_time_ms))),
        ("our multiplier", session.detect_multiplier.to_string()),
        ("echo packets", session.echo.clone()),
        ("packets", format!("{} sent, {} received", session.control_packets_sent, session.control_packets_received)),
        ("came up, went down", format!("{} times, {} times", session.ups, session.downs)),
    ]
}

fn routes(text: &mut String, peer: &PeerStatus) {
    if peer.routes.is_empty() {
        text.push_str("\nno routes\n");
        return;
    }
    text.push('\n');
    let mut table = table(&["PREFIX", "NEXT HOP", "AS PATH", "LOCAL PREF", "MED", "COMMUNITIES", "STATE"]);
    let number = |number: Option<u32>| number.map_or_else(|| "-".to_owned(), |number| number.to_string());
    for route in &peer.routes {
        let communities = if route.communities.is_empty() { "-".to_owned() } else { route.communities.join(" ") };
        table.add_row([
            route.prefix.clone(),
            route.next_hop.clone().unwrap_or_else(|| "-".to_owned()),
            route.as_path.clone().unwrap_or_else(|| "-".to_owned()),
            number(route.local_pref),
            number(route.med),
            communities,
            route.state.clone(),
        ]);
    }
    push(text, &table);
}

fn bfd_overview(text: &mut String, status: &Status) {
    if status.bfd.is_empty() {
        return;
    }
    text.push('\n');
    let mut table =
        table(&["BFD", "HOPS", "STATE", "FOR", "EVERY", "DETECTED IN", "ECHO", "UP/DOWN", "WENT DOWN LAST"]);
    let millis = |millis: Option<f64>| millis.map_or_else(|| "-".to_owned(), |millis| format!("{millis} ms"));
    for session in &status.bfd {
        let interface = session.interface.as_deref().map(|name| format!("%{name}")).unwrap_or_default();
        table.add_row([
            format!("{}{interface}", session.remote),
            session.hops.clone(),
            session.state.clone(),
            age(status, &session.since),
            millis(session.transmit_interval_ms),
            millis(session.detection_time_ms),
            session.echo.clone(),
            format!("{}/{}", session.ups, session.downs),
            session.last_down.clone().unwrap_or_else(|| "-".to_owned()),
        ]);
    }
    push(text, &table);
    if let Some(thread) = &status.speaker.bfd_thread {
        let _ = writeln!(
            text,
            "\nBFD runs with {} precedence; it was {} ms late at most",
            thread.precedence, thread.longest_delay_ms
        );
        for trouble in &thread.troubles {
            let _ = writeln!(text, "trouble: {trouble}");
        }
    }
}

/// Where it is, with its VRF.
fn router(peer: &PeerStatus) -> String {
    let vrf = peer.vrf.as_deref().map(|vrf| format!(" in {vrf}")).unwrap_or_default();
    format!("{}{vrf}", peer.router)
}

/// Why a session is not established, in one line.
fn why(status: &Status, peer: &PeerStatus) -> String {
    if peer.state == "Established" {
        return "-".to_owned();
    }
    let waits = peer.waits_for.as_deref().map(|what| format!("waits for {what}"));
    let last = peer.last_down.as_ref().map(|last| format!("{} ago: {}", age(status, &last.time), last.reason));
    [waits, last].into_iter().flatten().collect::<Vec<_>>().join("; ")
}

fn state(status: &Status, state: &str, since: Option<&str>) -> String {
    since.map_or_else(|| state.to_owned(), |since| format!("{state} for {} (since {since})", age(status, since)))
}

/// How long before the answer that was, in the two largest units.
fn age(status: &Status, time: &str) -> String {
    let (Ok(now), Ok(time)) = (status.speaker.time.parse::<Timestamp>(), time.parse::<Timestamp>()) else {
        return "?".to_owned();
    };
    let seconds = now.duration_since(time).as_secs().max(0);
    let (days, hours) = (seconds / 86_400, seconds / 3600 % 24);
    let (minutes, seconds) = (seconds / 60 % 60, seconds % 60);
    match (days, hours, minutes) {
        (0, 0, 0) => format!("{seconds}s"),
        (0, 0, _) => format!("{minutes}m{seconds}s"),
        (0, _, _) => format!("{hours}h{minutes}m"),
        _ => format!("{days}d{hours}h"),
    }
}

/// Columns without lines between them.
fn table(heads: &[&str]) -> Table {
    let mut table = Table::new();
    table.load_style(presets::NOTHING).set_header(heads);
    for column in table.column_iter_mut() {
        column.set_padding((0, 2));
    }
    table
}

fn push(text: &mut String, table: &Table) {
    for line in table.lines() {
        text.push_str(line.trim_end());
        text.push('\n');
    }
}

#[cfg(test)]
mod tests;
