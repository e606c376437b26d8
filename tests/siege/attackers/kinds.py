"""Every kind of attack, by its name."""

from collections.abc import Awaitable, Callable

from tests.siege.attackers import Attacker, accounts, before_login, contents, web

ATTACKS: dict[str, Callable[[Attacker], Awaitable[None]]] = {
    "huge CONNECT": before_login.ten_million_properties,
    "huge CONNECT in frames": before_login.in_many_frames,
    "held CONNECT": before_login.held_connect,
    "trickled CONNECT": before_login.trickled_connect,
    "long texts at log-in": before_login.long_texts,
    "garbage": before_login.garbage,
    "odd WebSocket frames": before_login.odd_frames,
    "wrong passwords": before_login.wrong_passwords,
    "idle connections": before_login.idle_connections,
    "property bomb of a node": accounts.property_bomb_of_node,
    "property bomb of echopub": accounts.property_bomb_of_echopub,
    "half-sent PUBLISH": accounts.half_sent_publish,
    "trickled PUBLISH": accounts.trickled_publish,
    "unreleased QoS 2": accounts.unreleased_qos_2,
    "large messages": accounts.large_messages,
    "small messages": accounts.small_messages,
    "huge topics": accounts.huge_topics,
    "long names": accounts.long_names,
    "packet oddities": accounts.packet_oddities,
    "subscription flood": accounts.subscription_flood,
    "slow receiver": accounts.slow_receiver,
    "unread answers": accounts.unread_answers,
    "wills": accounts.wills,
    "takeovers": accounts.takeovers,
    "herd": accounts.herd,
    "sessions left": accounts.sessions_left,
    "retained messages": accounts.retained_messages,
    "hostile contents": contents.hostile_contents,
    "half-sent requests": web.half_requests,
    "slow readers": web.slow_readers,
    "live streams": web.live_streams,
    "raw HTTP": web.raw_http,
    "odd hosts": web.odd_hosts,
    "wrong tokens": web.wrong_tokens,
    "crawl": web.crawl,
    "big forms": web.big_forms,
}
