//! What a server is told of its client's MSS.

use proptest::prelude::*;

use super::rig::{CLIENT_ISN, Rig, Shown};
use crate::drop_reason::DropReason;
use crate::guard::mss::SMALLEST_MSS;
use crate::parse::flags;

proptest! {
    #[test]
    fn e2_a_server_is_never_offered_more_than_its_client_takes(
        mss in prop_oneof![
            Just(None), (0u16..600).prop_map(Some), (0u16..1600).prop_map(Some),
            any::<u16>().prop_map(Some),
        ],
        stamps in any::<bool>(), mtu in prop_oneof![Just(1500u16), 100u16..=9000],
    ) {
        let mut rig = Rig::with(10, |config| config.outside_mtu = mtu);
        rig.client_options.mss = mss;
        rig.client_options.timestamps = rig.client_options.timestamps.filter(|_| stamps);
        let answer = rig.client_sends(rig.client_syn());
        if mss.is_some_and(|mss| mss < SMALLEST_MSS) {
            prop_assert_eq!(answer, Shown::Dropped(DropReason::MssTooSmall));
            return Ok(());
        }
        let Shown::Reply(cookie) = answer else {
            panic!("{answer:?}");
        };
        prop_assert_eq!(rig.client_sends(rig.client_ack(&cookie, b"")), Shown::Held);
        let syn = rig.only_sent();
        prop_assert_eq!((syn.flags, syn.sequence), (flags::SYN, CLIENT_ISN));
        let told = syn.options.mss.unwrap();
        prop_assert!(told <= mss.unwrap_or(536), "{:?} is told as {}", mss, told);
        prop_assert!(told <= mtu.min(1500) - 40);
    }
}
