//! Link layers of captures, and how their packets become Ethernet frames.

use super::Refusal;

/// A link layer whose packets can be sent as Ethernet frames.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Link {
    Ethernet,
    /// IP packets behind so many bytes that only tell the family.
    Ip {
        behind: usize,
    },
    /// Packets of `tcpdump -i any`: the EtherType stands here, the payload begins there.
    Cooked {
        ether_type: usize,
        payload: usize,
    },
}

/// Station addresses, which become those of the link that the frame is sent on, and an EtherType.
const HEADER_BYTES: usize = 14;
/// Smaller values of an EtherType are lengths, or Linux's own.
const LEAST_ETHER_TYPE: u16 = 0x0600;

impl Link {
    /// The link layer of this number (tcpdump.org/linktypes.html), or what it is called.
    pub(super) fn of(number: u32) -> Result<Self, String> {
        Ok(match number {
            1 => Self::Ethernet,
            0 | 108 => Self::Ip { behind: 4 },
            12 | 14 | 101 | 228 | 229 => Self::Ip { behind: 0 },
            113 => Self::Cooked {
                ether_type: 14,
                payload: 16,
            },
            276 => Self::Cooked {
                ether_type: 0,
                payload: 20,
            },
            _ => return Err(name(number)),
        })
    }

    /// The Ethernet header that goes before a packet, empty where it has its own, and the rest.
    pub(super) fn split(self, data: &[u8], number: usize) -> Result<(Vec<u8>, &[u8]), Refusal> {
        let (ether_type, payload) = match self {
            Self::Ethernet => return Ok((Vec::new(), data)),
            Self::Ip { behind } => {
                let payload = data.get(behind..).unwrap_or(&[]);
                let version = payload.first().map_or(0, |first| first >> 4);
                let ether_type = match version {
                    4 => 0x0800,
                    6 => 0x86dd,
                    _ => return Err(not_ip(number)),
                };
                (ether_type, payload)
            }
            Self::Cooked {
                ether_type,
                payload,
            } => {
                let ether_type = super::bytes::Order::Big.u16(data, ether_type);
                let ether_type = ether_type.filter(|told| *told >= LEAST_ETHER_TYPE);
                match (ether_type, data.get(payload..)) {
                    (Some(ether_type), Some(payload)) => (ether_type, payload),
                    _ => return Err(not_ip(number)),
                }
            }
        };
        let mut header = vec![0; HEADER_BYTES];
        header[HEADER_BYTES - 2..].copy_from_slice(&u16::to_be_bytes(ether_type));
        Ok((header, payload))
    }
}

fn not_ip(number: usize) -> Refusal {
    Refusal::new(
        format!(
            "packet {number} has no EtherType and is not of IP, so no Ethernet frame can carry it"
        ),
        "leave such packets out, by `tcpdump -r FILE -w NEW 'ip or ip6'`",
    )
}

fn name(number: u32) -> String {
    let known = match number {
        9 | 50 => "PPP",
        105 => "Wi-Fi (802.11)",
        119 | 127 | 163 => "Wi-Fi (802.11 with a radio header)",
        189 | 220 | 249 => "USB",
        187 | 201 => "Bluetooth",
        195 | 215 | 230 => "802.15.4",
        239 => "Linux netfilter's log",
        227 => "CAN",
        253 => "Linux netlink",
        147..=162 => "somebody's own link layer",
        _ => return format!("link type {number}"),
    };
    format!("{known} (link type {number})")
}

/// Packets of a link layer that is not sent.
pub(super) fn refusal(number: usize, name: &str) -> Refusal {
    Refusal::new(
        format!(
            "packet {number} is of {name}, which is not Ethernet, IP or Linux's cooked capture"
        ),
        "capture on an Ethernet interface, or on `any`",
    )
}
