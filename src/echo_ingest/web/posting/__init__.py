"""`POST /ingest/<node>`: a message by HTTP instead of MQTT, with the receipt as the answer.

It goes to the broker in the sender's name, through the same door as the messages of devices. So
the broker decides who may publish where, the line remains one line, and an answer of 201 means
what a receipt means: the message is on disk.
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Mapping

from litestar import Response, Router, post
from litestar.exceptions import (
    HTTPException,
    NotAuthorizedException,
    PermissionDeniedException,
    ServiceUnavailableException,
    TooManyRequestsException,
)
from litestar.params import FromPath

from echo_ingest.broker.topic_rights import TopicRights, is_ours_elsewhere
from echo_ingest.decode import Rules
from echo_ingest.mqtt import ConnectionLost, LoginRefused, PublishDenied, PublishRefused
from echo_ingest.mqtt.connection_errors import PublishTooLarge
from echo_ingest.pipeline.confirmed_publish import NoReceipt, ReceiptSession
from echo_ingest.pipeline.receipts import Receipt
from echo_ingest.settings import Settings
from echo_ingest.web.buckets import LeakyBuckets
from echo_ingest.web.connections import address_of, let_body_take_time
from echo_ingest.web.failed_attempts import FAILED_MAX, FORGIVEN_PER_SECOND
from echo_ingest.web.health import Service
from echo_ingest.web.posting import incoming
from echo_ingest.web.posting.bodies import RETRY, MessagesUnderWay
from echo_ingest.web.posting.described import ANSWERS, PostOperation
from echo_ingest.web.posting.incoming import CHALLENGE, Account
from echo_ingest.web.posting.node_sessions import RECEIPT_SECONDS_MAX, NodeSessions
from echo_ingest.web.problems import AnyRequest, peers_log
from echo_ingest.web.same_origin import comes_from_here, is_private

PATH = "/ingest"
STATUS: Mapping[str, int] = {"stored": 201, "unclaimed": 202, "rejected": 422}
"""The answer by the outcome; every other one needs nothing more of the sender."""
ADDRESS_AT_ONCE, ADDRESS_PER_SECOND = 5_000, 500
NODE_AT_ONCE, NODE_PER_SECOND = 1_000, 50
"""How many messages may come at once, and then how many a second."""

NOT_PRIVATE = (
    "the password was sent unencrypted: use HTTPS, by a proxy with TLS that sets "
    "X-Forwarded-Proto: https, or post from the machine of the service to http://localhost"
)
FOREIGN_PAGE = "this request came from a page of another site: devices and programs post messages"
AGAIN = "send it again: if it was stored, the answer will be `duplicate`"


def post_api(service: Service, settings: Settings, rules: Rules) -> Router:
    """Return the route that takes messages in; `rules` say for whom gateways may speak."""
    inlet = Inlet(service, settings, rules)

    @post(
        ["/{node:str}", "/{node:str}/{rest:path}"],
        security=[{"basic": []}],
        operation_class=PostOperation,
        responses=ANSWERS,
    )
    async def take_in(
        request: AnyRequest, node: FromPath[str], rest: FromPath[str] = ""
    ) -> Response[Receipt]:
        """Store the body as one message of a node; answer once it is on disk."""
        return await inlet.take_in(request, node, rest.strip("/"))

    return Router(PATH, route_handlers=[take_in], tags=["ingest"])


class Inlet:
    """What takes messages in, and its limits."""

    def __init__(self, service: Service, settings: Settings, rules: Rules) -> None:
        self._service = service
        self._settings = settings
        self._rights = TopicRights(settings.topic_filters)
        self._rights.speaks_for = rules.accounts
        self._sessions = NodeSessions(settings)
        self._under_way = MessagesUnderWay(settings.payload_bytes_max)
        self._failed = LeakyBuckets(FAILED_MAX, FORGIVEN_PER_SECOND)
        """Wrong passwords by address and account: behind a proxy, all devices have one address."""
        self._of_address = LeakyBuckets(ADDRESS_AT_ONCE, ADDRESS_PER_SECOND)
        self._of_node = LeakyBuckets(NODE_AT_ONCE, NODE_PER_SECOND)

    async def take_in(self, request: AnyRequest, node: str, rest: str) -> Response[Receipt]:
        """Return what became of a message."""
        if not is_private(request.headers):
            raise PermissionDeniedException(NOT_PRIVATE)
        if not comes_from_here(request.headers):
            raise PermissionDeniedException(FOREIGN_PAGE)
        address = address_of(request.scope)
        account = incoming.account_of(request.headers)
        # Behind a proxy all have one address: strangers are not to use up what devices may send.
        is_known = self._sessions.knows(account)
        _count(self._of_address, f"{address} {is_known}", "your address")
        query = incoming.query_of(request.query_params.multi_items())
        properties = incoming.properties_of(query)
        pattern = incoming.topic_of(self._settings, node, rest, query)
        incoming.check_content(request.headers)
        if problems := await self._service.ready():
            raise _not_now("; ".join(problems.values()))
        async with self._logged_in(account, address) as session:
            let_body_take_time(request.scope)
            sender = incoming.sender_of(self._settings, account, node)
            _count(self._of_node, sender, "this node")
            with self._under_way.counted(sender):
                async with self._under_way.body(request) as body:
                    topic = self._at_broker(account, pattern.filled(body))
                    receiver = incoming.receiver_of(self._settings, account, topic)
                    receipt = await self._publish(session, topic, body, properties, receiver)
        return _answer(receipt)

    @contextlib.asynccontextmanager
    async def _logged_in(self, account: Account, address: str) -> AsyncIterator[ReceiptSession]:
        attempts = f"{address} {account.user}"
        if not self._sessions.knows(account):
            wait_seconds = self._failed.wait_seconds(attempts)
            if wait_seconds:
                raise TooManyRequestsException(
                    f"too many wrong passwords for {account.user:.80} came from {address}; try "
                    f"again in {wait_seconds} s",
                    headers={"Retry-After": str(wait_seconds)},
                )
        try:
            async with self._sessions.logged_in(account) as session:
                yield session
        except LoginRefused:
            self._failed.count(attempts)
            peers_log.warning("wrong password in a post", account=account.user, address=address)
            raise NotAuthorizedException(
                f"the broker does not accept this name and password: {incoming.REMEDY}",
                headers=CHALLENGE,
            ) from None
        except ConnectionLost as error:
            raise _not_now(f"the broker cannot be reached ({error})") from None

    def _at_broker(self, account: Account, topic: str) -> str:
        """Return a topic as it is at the broker; where a proxy is in between, that sees to it."""
        if not is_ours_elsewhere(self._settings):
            return topic
        at_broker = self._rights.at_broker(account.user, topic)
        if at_broker is None:
            raise _denied(topic)
        return at_broker

    async def _publish(
        self,
        session: ReceiptSession,
        topic: str,
        body: bytes,
        properties: tuple[tuple[str, str], ...],
        receiver: str,
    ) -> Receipt:
        try:
            async with asyncio.timeout(RECEIPT_SECONDS_MAX):
                return await session.publish(topic, body, properties=properties, node=receiver)
        except PublishDenied:
            raise _denied(topic) from None
        except PublishTooLarge as error:
            raise HTTPException(str(error), status_code=413) from None
        except PublishRefused as error:
            raise _not_now(f"the broker did not take the message ({error})") from None
        except (NoReceipt, TimeoutError):
            raise _not_now(
                f"nothing has confirmed within {RECEIPT_SECONDS_MAX:g} s that the message is on "
                f"disk; {AGAIN}"
            ) from None


def _denied(topic: str) -> PermissionDeniedException:
    return PermissionDeniedException(
        f"this account may not publish on {topic:.200}: post to {PATH}/ and its own name"
    )


def _answer(receipt: Receipt) -> Response[Receipt]:
    status_code = STATUS.get(receipt.outcome, 200)
    headers = {}
    if receipt.outcome == "stored":
        headers["Location"] = f"/api/records/{receipt.offset}"
    return Response(
        receipt, status_code=status_code, media_type="application/json", headers=headers
    )


def _count(buckets: LeakyBuckets, key: str, whose: str) -> None:
    if wait_seconds := buckets.wait_seconds(key):
        raise TooManyRequestsException(
            f"too many messages came from {whose}; go on in {wait_seconds} s, and more slowly",
            headers={"Retry-After": str(wait_seconds)},
        )
    buckets.count(key)


def _not_now(why: str) -> ServiceUnavailableException:
    return ServiceUnavailableException(f"nothing can be stored now: {why}", headers=RETRY)
