//! Configurations that cannot be used are refused with what is wrong.

use super::rig::*;
use crate::hop::{HopConfig, HopConfigError, HopTables, Route};
use crate::io::{InterfaceId, PortId};
use crate::limits::{MAX_ADDRESSES, MAX_INTERFACES, MAX_ROUTES};
use crate::wire::ethernet::MacAddress;

fn refused(change: impl FnOnce(&mut HopConfig)) -> HopConfigError {
    let mut config = config();
    change(&mut config);
    HopTables::new(&config).expect_err("refused")
}

fn inside_address(address_text: &str, network: &str) -> HopConfigError {
    refused(|config| {
        config.interfaces[1].addresses = vec![(address(address_text), prefix(network))];
        config.routes.clear();
    })
}

#[test]
fn each_mistake_has_its_own_refusal() {
    use HopConfigError::*;
    assert_eq!(
        refused(|config| config.interfaces[2].vlan = Some(200)),
        DuplicateInterface(3)
    );
    assert_eq!(
        refused(|config| config.interfaces[2].vlan = Some(0)),
        BadVlan(2)
    );
    assert_eq!(
        refused(|config| config.interfaces[2].vlan = Some(4095)),
        BadVlan(2)
    );
    assert_eq!(
        refused(|config| config.interfaces[0].mac = MacAddress::BROADCAST),
        BadMac(0)
    );
    assert_eq!(
        refused(|config| config.interfaces[0].port = PortId(16)),
        UnknownPort(0)
    );
    assert_eq!(
        refused(|config| config.interfaces[0].mtu_bytes = 1279),
        MtuTooSmall(0, 1280)
    );
    assert_eq!(
        refused(|config| config.interfaces[2].mtu_bytes = 575),
        MtuTooSmall(2, 576)
    );
    assert_eq!(
        refused(|config| config.interfaces[2].addresses[0].0 = address("10.0.0.1")),
        BadAddress(2, address("10.0.0.1"))
    );
    for (own, network) in [
        ("10.0.0.0", "10.0.0.0/24"),
        ("10.0.0.255", "10.0.0.0/24"),
        ("127.0.0.1", "127.0.0.0/8"),
        ("ff02::5", "ff02::/64"),
    ] {
        assert_eq!(inside_address(own, network), BadAddress(1, address(own)));
    }
    assert_eq!(
        inside_address("192.0.2.1", "192.0.2.0/24"),
        DuplicateAddress(address("192.0.2.1"))
    );
}

#[test]
fn routes_lead_to_neighbours_of_interfaces_that_exist() {
    use HopConfigError::*;
    let route = |to: &str, via: &str, interface| Route {
        prefix: prefix(to),
        via: Some(address(via)),
        interface: InterfaceId(interface),
    };
    let with = |route: Route| refused(|config| config.routes.push(route));
    assert_eq!(
        with(route("10.8.0.0/16", "10.0.0.9", 4)),
        UnknownInterface(prefix("10.8.0.0/16"))
    );
    for via in ["10.1.0.9", "10.0.0.1", "fd00:1::9"] {
        assert_eq!(
            with(route("10.8.0.0/16", via, 1)),
            ViaUnreachable(prefix("10.8.0.0/16"), address(via))
        );
    }
    let mut config = config();
    config.routes.push(route("2001:db8:8::/48", "fe80::9", 1));
    let tables = HopTables::new(&config).unwrap();
    assert!(tables.way(address("2001:db8:8::1")).leads_out());
}

#[test]
fn capacities_are_kept() {
    use HopConfigError::*;
    let many = |config: &mut HopConfig| {
        let one = config.interfaces[2].clone();
        config.interfaces.resize(MAX_INTERFACES + 1, one);
    };
    assert_eq!(refused(many), TooManyInterfaces);
    let many = |config: &mut HopConfig| {
        let one = config.routes[0];
        config.routes.resize(MAX_ROUTES + 1, one);
    };
    assert_eq!(refused(many), TooManyRoutes);
    let many = |config: &mut HopConfig| {
        let one = config.interfaces[1].addresses[0];
        config.interfaces[1]
            .addresses
            .resize(MAX_ADDRESSES + 1, one);
    };
    assert_eq!(refused(many), TooManyAddresses(1));
}

#[test]
fn point_to_point_networks_use_all_their_addresses() {
    let mut config = config();
    config.interfaces[2].addresses = vec![(address("10.1.0.0"), prefix("10.1.0.0/31"))];
    let tables = HopTables::new(&config).unwrap();
    assert!(tables.way(address("10.1.0.1")).leads_out());
}
