//! The maximum segment sizes that a cookie can tell. A client's is rounded down to one of them, so
//! that its server never sends it more than it takes.

use crate::wire::address::Family;

/// The smallest size that is told, and the smallest that a SYN may offer: no stack sends less, and
/// below it there would be nothing to round down to.
pub const SMALLEST_MSS: u16 = 48;

/// The sizes that a cookie with timestamps can tell, rising. They are dense where the Internet's are,
/// at MTUs of 1,240 to 1,500, and multiples of four.
pub const MSS_WITH_TIMESTAMPS: [u16; 32] = [
    48, 84, 140, 216, 312, 424, 536, 700, 880, 1000, 1100, 1200, 1220, 1240, 1300, 1340, 1360,
    1380, 1400, 1420, 1440, 1452, 1460, 1800, 2264, 2960, 3940, 5200, 6800, 8836, 8940, 8960,
];
/// Those that one without timestamps can tell for IPv4.
pub const MSS_IPV4: [u16; 8] = [48, 216, 536, 1200, 1360, 1440, 1460, 8960];
/// The same for IPv6.
pub const MSS_IPV6: [u16; 8] = [48, 536, 1000, 1220, 1360, 1400, 1440, 8940];

const LARGEST: u16 = MSS_WITH_TIMESTAMPS[31];

/// The classes of all sizes up to the largest, of every four one.
static CLASSES: [u8; LARGEST as usize / 4 + 1] = classes();

const fn classes() -> [u8; LARGEST as usize / 4 + 1] {
    let mut classes = [0; LARGEST as usize / 4 + 1];
    let (mut at, mut class) = (0, 0);
    while at < classes.len() {
        if class + 1 < MSS_WITH_TIMESTAMPS.len()
            && at * 4 >= MSS_WITH_TIMESTAMPS[class + 1] as usize
        {
            class += 1;
        }
        classes[at] = class as u8;
        at += 1;
    }
    classes
}

/// The class of the largest size that does not exceed `mss`, of those that a cookie with or without
/// timestamps can tell. What is below the smallest counts as the smallest.
#[inline(always)]
pub(super) fn class_of(mss: u16, family: Family, timestamps: bool) -> u8 {
    if timestamps {
        return CLASSES[usize::from(mss.min(LARGEST) / 4)];
    }
    // All of them, rather than up to the first that is larger: they are compared at once.
    let tabled = of_family(family).iter();
    let up_to: u8 = tabled.map(|&tabled| u8::from(tabled <= mss)).sum();
    up_to.saturating_sub(1)
}

/// The size of a class, in bytes.
pub(super) fn of_class(class: u8, family: Family, timestamps: bool) -> u16 {
    if timestamps {
        MSS_WITH_TIMESTAMPS[usize::from(class & 31)]
    } else {
        of_family(family)[usize::from(class & 7)]
    }
}

fn of_family(family: Family) -> &'static [u16; 8] {
    match family {
        Family::V4 => &MSS_IPV4,
        Family::V6 => &MSS_IPV6,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn e2_no_size_is_rounded_up_and_few_are_rounded_far() {
        for family in [Family::V4, Family::V6] {
            for mss in SMALLEST_MSS..=u16::MAX {
                for timestamps in [false, true] {
                    let told = of_class(class_of(mss, family, timestamps), family, timestamps);
                    assert!(told <= mss, "{mss} is told as {told}");
                    // What the Internet has, within a tenth; a jumbo frame without timestamps may
                    // be told as a usual one.
                    let share = match (mss, timestamps) {
                        (1000..=1500, true) | (8836..9000, true) => 90,
                        (1220..=1500, false) => 88,
                        (216..9000, true) => 69,
                        (48..9000, true) => 57,
                        _ => 0,
                    };
                    let least = u32::from(mss) * share / 100;
                    assert!(u32::from(told) >= least, "{mss} is told as {told}");
                }
            }
        }
    }

    #[test]
    fn e2_the_sizes_that_are_usual_are_told_within_a_fiftieth() {
        // Ethernet, PPPoE, tunnels in IPv4, GRE, WireGuard, clouds, the least MTU of IPv6, jumbo.
        let mtus = [
            1500, 1492, 1480, 1476, 1460, 1450, 1440, 1420, 1400, 1280, 9000, 9001,
        ];
        for mtu in mtus {
            for (family, headers) in [(Family::V4, 40), (Family::V6, 60)] {
                let mss: u16 = mtu - headers;
                let told = |timestamps| {
                    u32::from(of_class(
                        class_of(mss, family, timestamps),
                        family,
                        timestamps,
                    ))
                };
                assert!(told(true) * 50 >= u32::from(mss) * 49, "{mss}");
                if [1500, 9000].contains(&mtu) {
                    assert_eq!(told(false), u32::from(mss));
                }
            }
        }
    }

    #[test]
    fn e2_every_size_of_a_table_is_told_as_itself() {
        for family in [Family::V4, Family::V6] {
            for (timestamps, table) in
                [(true, &MSS_WITH_TIMESTAMPS[..]), (false, of_family(family))]
            {
                assert!(table.is_sorted_by(|one, next| one < next));
                assert_eq!(table[0], SMALLEST_MSS);
                for (class, &mss) in (0..).zip(table) {
                    assert_eq!(class_of(mss, family, timestamps), class);
                    assert_eq!(of_class(class, family, timestamps), mss);
                }
            }
        }
        assert_eq!(class_of(0, Family::V4, true), 0);
        assert_eq!(class_of(0, Family::V6, false), 0);
    }
}
