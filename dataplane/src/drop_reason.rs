//! Every reason for which a packet ends here, each with its sentence.

macro_rules! drop_reasons {
    ($($name:ident $label:literal $sentence:literal,)*) => {
        /// Why a packet was not sent on.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        #[repr(u8)]
        pub enum DropReason {
            $(#[doc = $sentence] $name,)*
        }

        impl DropReason {
            /// Every reason, in the order of its counter.
            pub const ALL: &'static [Self] = &[$(Self::$name,)*];
            /// How many reasons there are.
            pub const COUNT: usize = Self::ALL.len();

            /// The name shown by `tidegate show drops` and in the metrics.
            pub const fn label(self) -> &'static str {
                match self { $(Self::$name => $label,)* }
            }

            /// What it means, in a sentence.
            pub const fn sentence(self) -> &'static str {
                match self { $(Self::$name => $sentence,)* }
            }
        }
    };
}

drop_reasons! {
    // Parsing.
    FrameTooShort "frame_too_short" "The frame ends before its link-layer header does.",
    UnknownEtherType "unknown_ether_type" "The frame carries neither IPv4, IPv6 nor ARP.",
    TooManyTags "too_many_tags" "The frame bears more VLAN tags, or others, than are read: one of 802.1Q by a hop, eight of 802.1Q or 802.1ad by a wire.",
    SnapEncapsulated "snap_encapsulated" "An LLC/SNAP frame on a wire holds a packet to or from a protected server, which is not read there.",
    UnknownVlan "unknown_vlan" "The frame's VLAN has no interface on this port.",
    MalformedArp "malformed_arp" "The ARP message is truncated or not Ethernet and IPv4.",
    MalformedIpv4 "malformed_ipv4" "The IPv4 header is truncated or contradicts itself.",
    BadIpv4Checksum "bad_ipv4_checksum" "The IPv4 header checksum is wrong.",
    MalformedIpv6 "malformed_ipv6" "The IPv6 header or an extension header is truncated or contradicts itself.",
    TooManyExtensionHeaders "too_many_extension_headers" "The IPv6 packet has more extension headers than are followed.",
    MalformedTransport "malformed_transport" "The TCP, UDP or ICMP header is truncated or contradicts itself.",
    MalformedTcpOptions "malformed_tcp_options" "An option of a SYN has length 0 or 1, ends past the header, has the wrong size or is repeated.",
    MssTooSmall "mss_too_small" "A SYN for a protected service offers an MSS below 48, which no stack does.",
    BadTcpFlags "bad_tcp_flags" "The TCP flags make no sense together (none, SYN with FIN or RST, all).",
    BadTransportChecksum "bad_transport_checksum" "The TCP, UDP or ICMP checksum is wrong.",
    MultiSegment "multi_segment" "The frame came in several buffers, which the port was told not to do.",
    // The hop.
    MartianSource "martian_source" "The source address cannot stand in a packet on a wire.",
    OwnSource "own_source" "The source address is ours, or equals the destination (LAND).",
    SpoofedSource "spoofed_source" "The source address belongs to a network behind another port.",
    NoRoute "no_route" "No route leads to the destination.",
    TtlExpired "ttl_expired" "The TTL or hop limit ran out here.",
    PacketTooBig "packet_too_big" "The packet exceeds the MTU of the way out and may not be fragmented.",
    NotForUs "not_for_us" "The frame is addressed to another station, or to us with nothing here to take it.",
    NeighbourUnresolved "neighbour_unresolved" "The next hop did not answer ARP or neighbour discovery in time.",
    NeighbourQueueFull "neighbour_queue_full" "Too many packets already wait for an address resolution.",
    NeighbourTableFull "neighbour_table_full" "The neighbour table is full.",
    UnsolicitedNeighbour "unsolicited_neighbour" "An ARP or neighbour message that answers nothing we asked, or fails RFC 4861's checks.",
    IcmpUnmatched "icmp_unmatched" "An ICMP error quotes a packet of no session, or one outside its window.",
    // Fragments.
    FragmentMalformed "fragment_malformed" "The fragment is tiny, misaligned, reaches past 65,535 octets, or hides its transport header.",
    FragmentOverlap "fragment_overlap" "The fragment overlaps another of its datagram or contradicts its end; the whole datagram is refused.",
    FragmentDuplicate "fragment_duplicate" "The very same fragment is held already.",
    FragmentTimeout "fragment_timeout" "The datagram was not complete in time.",
    FragmentLimit "fragment_limit" "The source, the datagram or the box holds as many fragments as it may.",
    // Rules and the guard.
    DeniedByRule "denied_by_rule" "A rule denies it.",
    CookieInvalid "cookie_invalid" "The ACK's cookie was not made by us for this connection.",
    CookieExpired "cookie_expired" "The ACK's cookie is ours but too old.",
    CookieReplayed "cookie_replayed" "The ACK repeats the handshake of a connection that has ended.",
    CatchingUp "catching_up" "Data of an unknown connection, or no room to wait, before the peers are heard after a stall of this guard.",
    LeftToOthers "left_to_others" "Of an unknown connection, which another guard has opened or can open: this one is cut off, or leaves.",
    NoSession "no_session" "The segment belongs to no session and opens none.",
    ResetWithoutSession "reset_without_session" "A RST for a session that does not exist.",
    SessionTableFull "session_table_full" "No room for another session.",
    HalfOpenLimit "half_open_limit" "Too many server sides are being opened.",
    HalfOpenSourceLimit "half_open_source_limit" "The source has too many server sides being opened.",
    HoldQueueFull "hold_queue_full" "Too much client data already waits for the server's answer.",
    DuplicateHeld "duplicate_held" "The segment already waits for the server's answer.",
    OutOfWindow "out_of_window" "The segment lies outside the receiver's window.",
    AckOfUnsent "ack_of_unsent" "The segment acknowledges what was never sent, or what was acknowledged long ago.",
    ResetNotExact "reset_not_exact" "A RST in the window that does not meet the next expected octet (RFC 5961).",
    SynOnSession "syn_on_session" "A SYN on a live session (RFC 5961).",
    ServerAnswerInvalid "server_answer_invalid" "The server's answer fits no SYN that was sent to it.",
    ServerRefused "server_refused" "The server answered with RST, or an ICMP error, while its side was being opened.",
    ServerSilent "server_silent" "The server did not answer any SYN that was sent to it.",
    SessionMismatch "session_mismatch" "The server's answer lacks an option that the client was promised.",
    SessionExpired "session_expired" "A held segment's session ended before it could be delivered.",
    Draining "draining" "The appliance is shutting down and opens no new session.",
    FragmentOfGuarded "fragment_of_guarded" "A fragment that would open a session.",
    // Peers.
    PeersBusy "peers_busy" "A datagram for the replication port is longer than 2,048 octets, or whoever talks to the peers takes no more.",
    // The transparent wire.
    EchoMalformed "echo_malformed" "An echo reply with our mark is cut short or contradicts itself.",
    EchoVersion "echo_version" "An echo reply with our mark is of another version.",
    EchoForged "echo_forged" "An echo reply with our mark was not made with our keys for these addresses.",
    EchoExpired "echo_expired" "An echo reply is ours but too old, or made by a guard whose clock is ahead.",
    EchoUnprotected "echo_unprotected" "An echo reply is ours, but its service is not protected here.",
    EchoMisplaced "echo_misplaced" "An echo reply with our mark came from the clients' side.",
    EchoRefused "echo_refused" "An ICMP error about an echo of ours, which the client never sent.",
    PathUnknown "path_unknown" "No frame of a proved connection has shown the way to the destination of a packet made here.",
    // Hand-off and output.
    HandOffFull "hand_off_full" "The ring to another worker was full.",
    PortLost "port_lost" "The interface behind the way out is gone, or has been made anew and is not taken up yet.",
    TransmitFull "transmit_full" "The port's transmit queue was full.",
    NoBuffer "no_buffer" "No packet buffer was free, or the buffer had no room for a header.",
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn labels_are_distinct_and_every_reason_has_its_sentence() {
        let labels: BTreeSet<_> = DropReason::ALL
            .iter()
            .map(|reason| reason.label())
            .collect();
        assert_eq!(labels.len(), DropReason::COUNT);
        for (index, reason) in DropReason::ALL.iter().enumerate() {
            assert_eq!(*reason as usize, index);
            assert!(reason.sentence().ends_with('.'), "{}", reason.label());
        }
    }
}
