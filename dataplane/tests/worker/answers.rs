//! What a SYN is answered follows what is known of its server and what the configuration says, also
//! where SYNs of the same form have been answered before.

use dataplane::command::Command;
use dataplane::parse::flags;
use dataplane::wire::address::Family;
use dataplane::wire::tcp::Tcp;
use dataplane::wire::tcp_options::{self, SynOptions, TcpOptions};

use crate::rig::conversation::Conversation;
use crate::rig::{Rig, Setup, Side, facts};
use crate::steps::{FAMILIES, proved};

/// What SYNs of the same form are answered, of which several come in one burst.
fn answers(rig: &mut Rig, family: Family, first: u16) -> TcpOptions {
    for number in first..first + 3 {
        let talk = Conversation::new(family, number);
        rig.send(Side::Outside, &talk.syn());
    }
    let mut answers = rig.settle().into_iter().map(|(side, packet)| {
        assert_eq!(side, Side::Outside);
        let parsed = facts(&packet);
        let segment = &packet[usize::from(parsed.transport)..usize::from(parsed.end)];
        let tcp = Tcp::new(segment).expect("a segment");
        assert_eq!(tcp.flags(), flags::SYN | flags::ACK);
        let options = tcp_options::parse(tcp.options()).expect("sound options");
        TcpOptions {
            timestamps: None,
            ..options
        }
    });
    let one = answers.next().expect("an answer");
    assert_eq!(answers.collect::<Vec<_>>(), [one; 2]);
    one
}

#[test]
fn what_a_server_has_said_is_told_from_the_next_syn_on() {
    for family in FAMILIES {
        let mut rig = Rig::new(Setup::default());
        let before = answers(&mut rig, family, 10);
        assert_eq!(before.window_scale, Some(7));
        let talk = proved(&mut rig, family, 1);
        let said = SynOptions {
            mss: Some(1_200),
            window_scale: Some(2),
            sack_permitted: true,
            timestamps: Some((1, 5_000)),
        };
        let mut options = [0; 40];
        let length = said.write(&mut options);
        let syn_ack = talk.server_segment(
            talk.server_isn,
            talk.client_isn.wrapping_add(1),
            flags::SYN | flags::ACK,
            &options[..length],
            b"",
        );
        rig.send(Side::Inside, &syn_ack);
        rig.settle_one(Side::Inside);
        let after = answers(&mut rig, family, 20);
        assert_eq!((after.mss, after.window_scale), (Some(1_200), Some(2)));
    }
}

#[test]
fn a_smaller_mtu_is_told_once_it_is_configured() {
    for (family, headers) in [(Family::V4, 40), (Family::V6, 60)] {
        let mut rig = Rig::new(Setup::default());
        assert_eq!(answers(&mut rig, family, 10).mss, Some(1_500 - headers));
        let smaller = Setup {
            mtu_bytes: [1_400, 1_500],
            ..Setup::default()
        };
        let configuration = Box::new(smaller.configuration());
        drop(rig.command(0, Command::Reconfigure(configuration)));
        assert_eq!(answers(&mut rig, family, 20).mss, Some(1_400 - headers));
    }
}
