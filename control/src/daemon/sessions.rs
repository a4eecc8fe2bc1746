//! Sessions: which there are, and the end of one.

use std::net::{IpAddr, SocketAddr};

use dataplane::command::{Command, Report, SessionPage, SessionRow as Row};
use dataplane::guard::session::{SessionName, State};
use dataplane::wire::address::Address;
use serde_json::Value;
use tracing::info;

use super::answers::text_of;
use super::control_loop::{Asker, Control};
use crate::profile::Prefix;
use crate::protocol::Filter;
use crate::report::{SessionRow, Sessions};

/// One end of a session, as somebody asks for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct End {
    net: Prefix,
    port: Option<u16>,
}

impl End {
    fn read(text: &str) -> Result<Self, String> {
        let whole =
            |address: IpAddr| Prefix::covering(address, if address.is_ipv4() { 32 } else { 128 });
        if let Ok(end) = text.parse::<SocketAddr>() {
            return Ok(Self {
                net: whole(end.ip()),
                port: Some(end.port()),
            });
        }
        let net = match text.parse::<IpAddr>() {
            Ok(address) => Some(whole(address)),
            Err(_) => Prefix::parse(text).ok(),
        };
        net.map(|net| Self { net, port: None }).ok_or_else(|| {
            format!(
                "`{text}` is no end of a session; write an address, `ADDRESS:PORT` (`[ADDRESS]:PORT` \
                 for IPv6), or a prefix"
            )
        })
    }

    fn is(&self, address: Address, port: u16) -> bool {
        self.net.contains(address.into()) && self.port.is_none_or(|own| own == port)
    }
}

/// Which sessions are meant.
struct Wanted {
    client: Option<End>,
    server: Option<End>,
    state: Option<State>,
}

impl Wanted {
    fn read(filter: &Filter) -> Result<Self, String> {
        let end = |text: &Option<String>| text.as_deref().map(End::read).transpose();
        let states = [State::Opening, State::Established, State::Closed];
        let state = filter.state.as_deref().map(|word| {
            let found = states.into_iter().find(|state| state.label() == word);
            found.ok_or_else(|| {
                format!("`{word}` is no state; write `opening`, `established` or `closed`")
            })
        });
        Ok(Self {
            client: end(&filter.client)?,
            server: end(&filter.server)?,
            state: state.transpose()?,
        })
    }

    fn is(&self, row: &Row) -> bool {
        self.client
            .is_none_or(|end| end.is(row.client, row.client_port))
            && self
                .server
                .is_none_or(|end| end.is(row.server, row.server_port))
            && self.state.is_none_or(|state| state == row.state)
    }
}

impl Control {
    /// Sessions, in no particular order.
    pub(super) fn sessions(&mut self, limit: usize, filter: &Filter) -> Result<Sessions, String> {
        let wanted = Wanted::read(filter)?;
        let mut sessions = Vec::new();
        for worker in 0..self.crew.members.len() {
            let mut page = Box::<SessionPage>::default();
            loop {
                let Report::Sessions(filled) = self.crew.ask(worker, Command::Sessions(page))?
                else {
                    break;
                };
                for row in filled.rows.iter().filter(|row| wanted.is(row)) {
                    if sessions.len() == limit {
                        return Ok(Sessions {
                            sessions,
                            more: true,
                        });
                    }
                    sessions.push(SessionRow {
                        client: text_of(row.client),
                        client_port: row.client_port,
                        server: text_of(row.server),
                        server_port: row.server_port,
                        state: row.state.label().into(),
                        spliced: row.is_spliced,
                        sequence_delta: row.sequence_delta,
                        idle_ms: row.idle_ms,
                        worker,
                    });
                }
                if filled.is_last {
                    break;
                }
                page = filled;
            }
        }
        Ok(Sessions {
            sessions,
            more: false,
        })
    }

    /// Ends a session, whichever worker has it.
    pub(super) fn end_session(
        &mut self,
        client: SocketAddr,
        server: SocketAddr,
        asker: Asker,
    ) -> Result<Value, String> {
        let name = SessionName {
            client: client.ip().into(),
            client_port: client.port(),
            server: server.ip().into(),
            server_port: server.port(),
        };
        let reports = self.crew.ask_all(|_| Command::EndSession(name))?;
        let has_ended = reports
            .iter()
            .any(|report| matches!(report, Report::SessionEnded(true)));
        if !has_ended {
            return Err(format!(
                "no session of {client} with {server} is live; `tidegate show sessions` tells those \
                 that are"
            ));
        }
        info!("The session of {client} with {server} is ended, as {asker} asked.");
        Ok(serde_json::json!({ "ended": true }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(client: [u8; 4], state: State) -> Row {
        Row {
            client: Address::from_v4(client),
            client_port: 4000,
            server: Address::from_v4([10, 0, 0, 10]),
            server_port: 80,
            state,
            is_spliced: true,
            sequence_delta: 0,
            idle_ms: 0,
        }
    }

    // I6
    #[test]
    fn i6_sessions_are_chosen_by_client_server_and_state() {
        let rows = [
            row([198, 51, 100, 7], State::Established),
            row([198, 51, 100, 8], State::Opening),
            row([203, 0, 113, 1], State::Established),
        ];
        let chosen = |client: &str, server: &str, state: &str| {
            let word = |text: &str| (!text.is_empty()).then(|| text.to_owned());
            let filter = Filter {
                client: word(client),
                server: word(server),
                state: word(state),
            };
            let wanted = Wanted::read(&filter)?;
            let places = (0..rows.len()).filter(|place| wanted.is(&rows[*place]));
            Ok::<_, String>(places.collect::<Vec<_>>())
        };
        assert_eq!(chosen("", "", ""), Ok(vec![0, 1, 2]));
        assert_eq!(chosen("198.51.100.0/24", "", ""), Ok(vec![0, 1]));
        assert_eq!(chosen("198.51.100.7", "", ""), Ok(vec![0]));
        assert_eq!(chosen("198.51.100.7:4001", "", ""), Ok(vec![]));
        assert_eq!(chosen("198.51.100.7:4000", "10.0.0.10:80", ""), Ok(vec![0]));
        assert_eq!(chosen("", "10.0.0.10:443", ""), Ok(vec![]));
        assert_eq!(chosen("", "2001:db8::/32", ""), Ok(vec![]));
        assert_eq!(chosen("", "10.0.0.10", "established"), Ok(vec![0, 2]));
        assert!(
            chosen("", "", "open")
                .unwrap_err()
                .contains("`established`")
        );
        assert!(
            chosen("web", "", "")
                .unwrap_err()
                .contains("`web` is no end")
        );
    }
}
