//! Queue items as frames, and the receipts that their acks earn.
use bytes::Bytes;
use chat_protocol::frame::{Deliver, Receipt, ServerFrame};
use chat_protocol::node::{self, envelope};
use chat_protocol::{ConvId, DeviceId, Mid, UserId};
use prost::Message as _;

/// An item for a device: its frame, and the mark its ack earns. `None` when it cannot be read.
pub(crate) fn open(
    dseq: u64,
    payload: Bytes,
    owner: UserId,
) -> Option<(ServerFrame, Option<node::Mark>)> {
    match node::Envelope::decode(payload).ok()?.item? {
        envelope::Item::Message(message) => {
            let conv = ConvId::from_bytes(&message.conv).ok()?;
            let from_device = DeviceId(message.from_device);
            let from = from_device.user();
            let mark = (from != owner).then(|| node::Mark {
                conv: message.conv,
                who: owner.0,
                delivered: message.cseq,
                notify: from.0,
            });
            let frame = ServerFrame::Deliver(Deliver {
                dseq,
                mid: Mid::from_bytes(&message.mid)?,
                conv,
                cseq: message.cseq,
                from,
                from_device,
                kind: message.kind,
                body: message.body,
            });
            Some((frame, mark))
        }
        envelope::Item::Receipt(receipt) => {
            let frame = ServerFrame::Receipt(Receipt {
                dseq,
                conv: ConvId::from_bytes(&receipt.conv).ok()?,
                who: UserId(receipt.who),
                delivered: receipt.delivered,
            });
            Some((frame, None))
        }
    }
}
