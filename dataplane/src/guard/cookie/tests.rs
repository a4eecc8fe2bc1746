//! Cookies made, come back, guessed and forged.

use super::*;
use proptest::prelude::*;

fn key(byte: u8, not_before_s: u64) -> CookieKey {
    CookieKey {
        not_before_s,
        secret: [byte; 16],
    }
}

fn tuple() -> Tuple {
    Tuple {
        client: Address::from_v4([198, 51, 100, 7]),
        server: Address::from_v4([10, 0, 0, 10]),
        client_port: 40_000,
        server_port: 80,
        client_sequence: 0xdead_beef,
    }
}

fn full() -> Agreed {
    Agreed {
        mss_class: 22,
        window_scale: Some(9),
        told_scale: Some(4),
        sack: true,
        ecn: true,
        timestamps: true,
    }
}

#[test]
fn a_cookie_lasts_for_its_tick_and_the_next() {
    // CASES 2
    let jar = CookieJar::new(&[key(1, 0)]);
    let made_s = 1000 * TICK_S;
    let cookie = jar.make(&tuple(), full(), made_s);
    for age_s in [0, TICK_S - 1, TICK_S, 2 * TICK_S - 1] {
        assert_eq!(
            jar.check(&tuple(), cookie, true, made_s + age_s),
            Ok(full()),
            "{age_s}"
        );
    }
    let late = jar.check(&tuple(), cookie, true, made_s + 2 * TICK_S);
    assert_eq!(late, Err(CookieError::Expired));
    for age_s in [3 * TICK_S, 4 * TICK_S, 5 * TICK_S, 400 * TICK_S] {
        assert!(
            jar.check(&tuple(), cookie, true, made_s + age_s).is_err(),
            "{age_s}"
        );
    }
    // A peer whose clock is a tick behind takes it too.
    assert_eq!(jar.check(&tuple(), cookie, true, made_s - 1), Ok(full()));
}

#[test]
fn two_guards_with_the_same_keys_agree_across_a_rotation() {
    let rotation_s = 5000 * TICK_S;
    let old = CookieJar::new(&[key(1, 0)]);
    let new = CookieJar::new(&[key(2, rotation_s), key(1, 0)]);
    let before = old.make(&tuple(), full(), rotation_s - 1);
    assert_eq!(
        new.check(&tuple(), before, true, rotation_s + 1),
        Ok(full())
    );
    let after = new.make(&tuple(), full(), rotation_s);
    assert_eq!(new.check(&tuple(), after, true, rotation_s), Ok(full()));
    assert_eq!(
        old.check(&tuple(), after, true, rotation_s),
        Err(CookieError::Invalid)
    );
}

#[test]
fn leaving_the_timestamps_out_does_not_weaken_a_cookie_made_with_them() {
    let jar = CookieJar::new(&[key(1, 0)]);
    let cookie = jar.make(&tuple(), full(), 77);
    assert_eq!(
        jar.check(&tuple(), cookie, false, 77),
        Err(CookieError::Invalid)
    );
}

#[test]
fn scales_are_rounded_down() {
    let coarse = Agreed {
        window_scale: Some(9),
        sack: true,
        ..full()
    }
    .without_timestamps();
    assert_eq!(coarse.window_scale, Some(8));
    assert!(!coarse.ecn);
}

fn any_agreed() -> impl Strategy<Value = Agreed> {
    let scale = || proptest::option::of(0u8..15);
    (
        0u8..32,
        scale(),
        scale(),
        any::<bool>(),
        any::<bool>(),
        any::<bool>(),
    )
        .prop_map(
            |(mss_class, window_scale, told_scale, sack, ecn, timestamps)| {
                let agreed = Agreed {
                    mss_class,
                    window_scale,
                    told_scale,
                    sack,
                    ecn,
                    timestamps,
                };
                if timestamps {
                    agreed
                } else {
                    let mss_class = mss_class & 7;
                    Agreed {
                        mss_class,
                        ..agreed
                    }
                    .without_timestamps()
                }
            },
        )
}

proptest! {
    #[test]
    fn what_goes_in_comes_out(
        agreed in any_agreed(), bits in any::<(u128, u128)>(), ports in any::<(u16, u16)>(),
        client_sequence in any::<u32>(), unix_s in 0u64..1 << 40, v6 in any::<bool>(),
    ) {
        let of = |bits: u128| if v6 {
            Address::from_bits(bits | 1 << 127)
        } else {
            Address::from_v4((bits as u32).to_be_bytes())
        };
        let tuple = Tuple {
            client: of(bits.0), server: of(bits.1),
            client_port: ports.0, server_port: ports.1, client_sequence,
        };
        let jar = CookieJar::new(&[key(7, 0)]);
        let cookie = jar.make(&tuple, agreed, unix_s);
        prop_assert_eq!(jar.check(&tuple, cookie, agreed.timestamps, unix_s), Ok(agreed));
        prop_assert_eq!(Agreed::from_packed(agreed.packed()), agreed);
    }

    #[test]
    fn a_flipped_bit_anywhere_is_refused(bit in 0usize..32, field in 0usize..6) {
        // CASES 2
        let jar = CookieJar::new(&[key(7, 0)]);
        let cookie = jar.make(&tuple(), full(), 640);
        let (mut other, mut forged) = (tuple(), cookie);
        match field {
            0 => forged.sequence ^= 1 << bit,
            1 => forged.timestamp ^= 1 << bit,
            2 => other.client_sequence ^= 1 << bit,
            3 => other.client_port ^= 1 << (bit & 15),
            4 => other.server_port ^= 1 << (bit & 15),
            _ => other.client = Address::from_bits(other.client.to_bits() ^ 1 << bit),
        }
        prop_assert!(jar.check(&other, forged, true, 640).is_err());
    }
}

#[test]
fn few_of_many_guesses_are_accepted() {
    // 2^20 guesses at a 24-bit code: 1/16 expected for each of the four tick values.
    let jar = CookieJar::new(&[key(3, 0)]);
    let mut guess = 0x9e37_79b9u32;
    let accepted = (0..1 << 20)
        .filter(|_| {
            guess = guess.wrapping_mul(747_796_405).wrapping_add(2_891_336_453);
            let cookie = Cookie {
                sequence: guess,
                timestamp: 0,
            };
            jar.check(&tuple(), cookie, false, 99).is_ok()
        })
        .count();
    assert!(accepted <= 4, "{accepted}");
}
