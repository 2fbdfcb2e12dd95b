//! The text of join tokens: what it looks like, and what happens to damaged ones.

#![cfg(test)]

mod cases {
    use riftmesh_base::codec::{open, seal};
    use riftmesh_base::{BlobHash, ClusterId, JoinTokenId, Millis, Role, decode};
    use riftmesh_transport::{JoinToken, TokenError};

    const PREFIX: &str = "riftmesh-join-";
    const PINNED: &str = "riftmesh-join-Uk1qdAEAWQAAAPKNwHEBAQEBAQEBAQEBAQEBAQEBAgMDAwMDAwMDAwMDAwMDAwMDAwMDAwMDAwMDAwMDAwMDAYDwzIamNwQFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQ";

    fn token() -> JoinToken {
        JoinToken {
            cluster: ClusterId([1; 16]),
            id: JoinTokenId(2),
            secret: decode(&[3; 32]).unwrap(),
            role: Role::Worker,
            expires: Millis(1_900_000_000_000),
            uses: 4,
            authority: BlobHash([5; 32]),
        }
    }

    /// The text of a token stays what it is: people keep it in scripts. So does the hash that the state keeps.
    #[test]
    fn the_text_is_pinned() {
        assert_eq!(*token().to_text(), PINNED);
        assert_eq!(PINNED.parse::<JoinToken>().unwrap(), token());
        assert_eq!(token().secret.hash().short(), "8d855408");
    }

    /// Every prefix and every changed character is refused, and no error repeats the token.
    #[test]
    fn damage_is_noticed_and_not_repeated() {
        let changed = (0..PINNED.len()).map(|at| {
            let other = if PINNED.as_bytes()[at] == b'x' {
                "y"
            } else {
                "x"
            };
            format!("{}{other}{}", &PINNED[..at], &PINNED[at + 1..])
        });
        let cut = (0..PINNED.len()).map(|end| PINNED[..end].to_owned());
        let others = [
            format!("{PREFIX}{}", "A".repeat(1_000)),
            format!("{PINNED}AAAA"),
            "Bearer 1234".to_owned(),
        ];
        for wrong in changed.chain(cut).chain(others) {
            let error = wrong.parse::<JoinToken>().unwrap_err().to_string();
            assert!(!error.contains("AwMDAwMD"), "{error}");
        }
    }

    /// A newer build's token is refused by its version, not misread.
    #[test]
    fn later_versions_are_refused_by_name() {
        let text = |sealed: &[u8]| {
            let body = data_encoding::BASE64URL_NOPAD.encode(sealed);
            format!("{PREFIX}{body}")
        };
        let body = PINNED.strip_prefix(PREFIX).unwrap();
        let sealed = data_encoding::BASE64URL_NOPAD
            .decode(body.as_bytes())
            .unwrap();
        let (payload, _) = open(*b"RMjt", 1, &sealed).unwrap();
        let later = text(&seal(*b"RMjt", 2, payload)).parse::<JoinToken>();
        assert_eq!(later.unwrap_err(), TokenError::Version { found: 2 });
        assert_eq!(text(&seal(*b"RMjt", 1, payload)), PINNED);
    }

    /// Neither the token nor its secret shows up where values are printed for logs.
    #[test]
    fn secrets_are_not_printed() {
        let text = format!("{:?}", token());
        assert!(
            text.contains("not shown") && !text.contains("3, 3"),
            "{text}"
        );
    }
}
