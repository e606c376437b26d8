// What every page does: it tells its zone, and shows changes as they happen.
import { tellZone } from "./zone";
import { follow } from "./live";

tellZone();
const topic = document.body.dataset["liveOf"];
if (topic !== undefined) follow(topic);
