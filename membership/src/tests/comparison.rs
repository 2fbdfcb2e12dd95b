//! Views are sent only to who lacks something of them.

use bytes::Bytes;
use riftmesh_base::{Millis, NodeId, decode, encode};
use riftmesh_transport::Target;

use super::agent;
use crate::message::{MeshReply, MeshRequest};
use crate::{Agent, Input, MeshEffect};

/// Has `answerer` answer the only request among `effects`, and gives the answer.
fn answered(answerer: &mut Agent, asker: &Agent, effects: &[MeshEffect]) -> Bytes {
    let mut requests = effects.iter().filter_map(|effect| match effect {
        MeshEffect::Exchange { body, .. } => Some(body.clone()),
        _ => None,
    });
    let request = Input::Request {
        from: asker.identity().node,
        ticket: 1,
        body: requests.next().unwrap(),
    };
    assert_eq!(requests.next(), None);
    let replies = answerer.step(Millis(1), request);
    let mut replies = replies.into_iter().filter_map(|effect| match effect {
        MeshEffect::Reply { body, .. } => body.ok(),
        _ => None,
    });
    replies.next().unwrap()
}

/// Two that differ compare, exchange, and then are the same.
#[test]
fn a_difference_leads_to_an_exchange_and_no_difference_to_none() {
    let (mut one, mut two) = (agent(1), agent(2));
    let body = encode(&MeshRequest::Compare {
        digest: one.digest(),
    });
    let comparison = MeshEffect::Exchange {
        to: Target {
            node: None,
            address: two.identity().address,
        },
        body: body.into(),
    };
    let answer = answered(&mut two, &one, &[comparison]);
    assert!(matches!(decode(&answer), Ok(MeshReply::Different(life)) if life == two.identity()));
    let effects = one.step(Millis(2), Input::Exchanged { body: answer });
    let view = answered(&mut two, &one, &effects);
    assert!(matches!(decode(&view), Ok(MeshReply::View(_))));
    one.step(Millis(3), Input::Exchanged { body: view });
    assert_eq!(one.digest(), two.digest());
    let body = encode(&MeshRequest::Compare {
        digest: one.digest(),
    });
    let again = Input::Request {
        from: NodeId(1),
        ticket: 2,
        body: body.into(),
    };
    let same = two.step(Millis(4), again);
    assert!(same.iter().any(|effect| matches!(
        effect,
        MeshEffect::Reply { body: Ok(body), .. } if matches!(decode(body), Ok(MeshReply::Same))
    )));
}
