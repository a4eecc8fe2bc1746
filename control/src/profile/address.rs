//! IP prefixes and interface addresses as a profile writes them.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use serde::{Serialize, Serializer};

/// An IP prefix whose host bits are all zero.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Prefix {
    address: IpAddr,
    length: u8,
}

/// Why a text is not a prefix or an interface address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AddressError {
    /// The part before the slash is no IP address.
    Address,
    /// The part after the slash is no number, or more than the address has bits.
    Length {
        /// The most bits a prefix of this family can have.
        most: u8,
    },
    /// A bit after the prefix is set; the prefix that was probably meant is given.
    HostBits {
        /// The same prefix with its host bits cleared.
        meant: Prefix,
    },
}

/// The number of bits in an address of this family.
#[must_use]
pub(super) fn bits(address: IpAddr) -> u8 {
    if address.is_ipv4() { 32 } else { 128 }
}

fn masked(address: IpAddr, length: u8) -> IpAddr {
    match address {
        IpAddr::V4(v4) => {
            let mask = u32::MAX.checked_shl(32 - u32::from(length)).unwrap_or(0);
            IpAddr::V4(Ipv4Addr::from_bits(v4.to_bits() & mask))
        }
        IpAddr::V6(v6) => {
            let mask = u128::MAX.checked_shl(128 - u32::from(length)).unwrap_or(0);
            IpAddr::V6(Ipv6Addr::from_bits(v6.to_bits() & mask))
        }
    }
}

fn split(text: &str) -> Result<(IpAddr, u8), AddressError> {
    let (address, length) = match text.split_once('/') {
        Some((address, length)) => (address, Some(length)),
        None => (text, None),
    };
    let address: IpAddr = address.parse().map_err(|_| AddressError::Address)?;
    let most = bits(address);
    let digits = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    let length = match length {
        None => most,
        Some(text) => match text.parse::<u8>() {
            Ok(length) if length <= most && digits(text) => length,
            _ => return Err(AddressError::Length { most }),
        },
    };
    Ok((address, length))
}

impl Prefix {
    /// The prefix of `length` bits that `address` lies in.
    ///
    /// A length beyond the family's bits is taken as all of them.
    #[must_use]
    pub fn covering(address: IpAddr, length: u8) -> Self {
        let length = length.min(bits(address));
        Self {
            address: masked(address, length),
            length,
        }
    }

    /// Reads `address/length`; an address alone is a prefix of its full length.
    ///
    /// # Errors
    /// When it is not an address, has too long a prefix, or has host bits set.
    pub fn parse(text: &str) -> Result<Self, AddressError> {
        let (address, length) = split(text)?;
        let prefix = Self::covering(address, length);
        if prefix.address == address {
            Ok(prefix)
        } else {
            Err(AddressError::HostBits { meant: prefix })
        }
    }

    /// The first address of the prefix.
    #[must_use]
    pub fn address(&self) -> IpAddr {
        self.address
    }

    /// How many leading bits are fixed.
    #[must_use]
    pub fn length(&self) -> u8 {
        self.length
    }

    /// Whether this is an IPv4 prefix.
    #[must_use]
    pub fn is_ipv4(&self) -> bool {
        self.address.is_ipv4()
    }

    /// Whether `address` lies in the prefix.
    #[must_use]
    pub fn contains(&self, address: IpAddr) -> bool {
        address.is_ipv4() == self.is_ipv4() && masked(address, self.length) == self.address
    }

    /// Whether the two prefixes have an address in common.
    #[must_use]
    pub fn overlaps(&self, other: &Self) -> bool {
        self.contains(other.address) || other.contains(self.address)
    }
}

impl Serialize for Prefix {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl fmt::Display for Prefix {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}/{}", self.address, self.length)
    }
}

/// An address of the appliance itself, with the net it stands in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct InterfaceAddress {
    /// The appliance's own address.
    pub address: IpAddr,
    /// How many leading bits the net's addresses share.
    pub prefix_length: u8,
}

impl InterfaceAddress {
    /// Reads `address/length`; the length must be written.
    ///
    /// # Errors
    /// When it is not an address or has no prefix length that fits it.
    pub fn parse(text: &str) -> Result<Self, AddressError> {
        let (address, prefix_length) = split(text)?;
        if text.contains('/') {
            Ok(Self {
                address,
                prefix_length,
            })
        } else {
            Err(AddressError::Length {
                most: bits(address),
            })
        }
    }

    /// The net that is reached on the port with no router between.
    #[must_use]
    pub fn net(&self) -> Prefix {
        Prefix::covering(self.address, self.prefix_length)
    }
}

impl Serialize for InterfaceAddress {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl fmt::Display for InterfaceAddress {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}/{}", self.address, self.prefix_length)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prefixes_read_and_print() {
        for text in [
            "0.0.0.0/0",
            "10.0.0.0/8",
            "192.0.2.7/32",
            "::/0",
            "2001:db8:1::/64",
        ] {
            assert_eq!(Prefix::parse(text).unwrap().to_string(), text);
        }
        assert_eq!(Prefix::parse("192.0.2.7").unwrap().length(), 32);
    }

    #[test]
    fn wrong_prefixes_say_why() {
        assert_eq!(Prefix::parse("10.0.0/8"), Err(AddressError::Address));
        assert_eq!(
            Prefix::parse("10.0.0.0/33"),
            Err(AddressError::Length { most: 32 })
        );
        assert_eq!(
            Prefix::parse("10.0.0.0/+8"),
            Err(AddressError::Length { most: 32 })
        );
        assert_eq!(
            Prefix::parse("::/129"),
            Err(AddressError::Length { most: 128 })
        );
        let meant = Prefix::parse("10.0.0.0/8").unwrap();
        assert_eq!(
            Prefix::parse("10.1.0.0/8"),
            Err(AddressError::HostBits { meant })
        );
        assert_eq!(
            InterfaceAddress::parse("10.0.0.1"),
            Err(AddressError::Length { most: 32 })
        );
    }

    #[test]
    fn containment_and_overlap() {
        let net = Prefix::parse("10.0.0.0/8").unwrap();
        assert!(net.contains("10.255.0.1".parse().unwrap()));
        assert!(!net.contains("11.0.0.1".parse().unwrap()));
        assert!(!net.contains("::10.0.0.1".parse().unwrap()));
        assert!(net.overlaps(&Prefix::parse("10.9.0.0/16").unwrap()));
        assert!(Prefix::parse("10.9.0.0/16").unwrap().overlaps(&net));
        assert!(!net.overlaps(&Prefix::parse("::/0").unwrap()));
    }
}
