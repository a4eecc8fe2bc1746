//! TCP options (RFC 9293 §3.1, RFC 7323, RFC 2018).

/// A TCP option.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TcpOption {
    /// The end of the list.
    End,
    /// Padding.
    Nop,
    /// Maximum segment size.
    Mss(u16),
    /// Window scale.
    WindowScale(u8),
    /// SACK may be used.
    SackPermitted,
    /// SACK blocks: left edge, right edge.
    Sack(Vec<(u32, u32)>),
    /// Timestamps.
    Timestamps {
        /// The sender's clock.
        value: u32,
        /// The newest value that the sender has seen.
        echo: u32,
    },
    /// Any other, or one whose length does not fit its kind: all its octets, as they stand.
    Raw(Vec<u8>),
}

/// Reads a list of options.
pub(super) fn read(mut bytes: &[u8]) -> Vec<TcpOption> {
    let mut options = Vec::new();
    while let Some(&kind) = bytes.first() {
        let length = match kind {
            0 | 1 => 1,
            _ => usize::from(bytes.get(1).copied().unwrap_or(0)),
        };
        if length == 0 || length > bytes.len() || (kind > 1 && length < 2) {
            options.push(TcpOption::Raw(bytes.to_vec()));
            break;
        }
        options.push(read_one(&bytes[..length]));
        bytes = &bytes[length..];
    }
    options
}

fn read_one(option: &[u8]) -> TcpOption {
    let long = |at: usize| {
        u32::from_be_bytes([option[at], option[at + 1], option[at + 2], option[at + 3]])
    };
    match (option[0], option.len()) {
        (0, 1) => TcpOption::End,
        (1, 1) => TcpOption::Nop,
        (2, 4) => TcpOption::Mss(u16::from_be_bytes([option[2], option[3]])),
        (3, 3) => TcpOption::WindowScale(option[2]),
        (4, 2) => TcpOption::SackPermitted,
        (5, length) if length > 2 && (length - 2).is_multiple_of(8) => TcpOption::Sack(
            (2..length)
                .step_by(8)
                .map(|at| (long(at), long(at + 4)))
                .collect(),
        ),
        (8, 10) => TcpOption::Timestamps {
            value: long(2),
            echo: long(6),
        },
        _ => TcpOption::Raw(option.to_vec()),
    }
}

/// Writes a list of options, padded with zeros to a multiple of four octets.
pub(super) fn write(options: &[TcpOption]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for option in options {
        match option {
            TcpOption::End => bytes.push(0),
            TcpOption::Nop => bytes.push(1),
            TcpOption::Mss(size) => {
                bytes.extend([2, 4]);
                bytes.extend(size.to_be_bytes());
            }
            TcpOption::WindowScale(shift) => bytes.extend([3, 3, *shift]),
            TcpOption::SackPermitted => bytes.extend([4, 2]),
            TcpOption::Sack(blocks) => {
                bytes.extend([5, 2 + 8 * blocks.len() as u8]);
                for (left, right) in blocks {
                    bytes.extend(left.to_be_bytes());
                    bytes.extend(right.to_be_bytes());
                }
            }
            TcpOption::Timestamps { value, echo } => {
                bytes.extend([8, 10]);
                bytes.extend(value.to_be_bytes());
                bytes.extend(echo.to_be_bytes());
            }
            TcpOption::Raw(octets) => bytes.extend(octets),
        }
    }
    bytes.resize(bytes.len().next_multiple_of(4), 0);
    bytes
}
