/** Places of the page, as in the part of its address after the hash. No place names a patient. */

import { Worklist } from "../../../careinvitation/v1/worklist_service_pb.js";
import { LISTS, type List } from "./rows.js";

export type Route =
  | { at: "units" }
  | { at: "list"; careUnit: string; list: List }
  | { at: "request"; careUnit: string; id: string };

const HSA_ID = /^(SE(16)?\d{10}|TSTNMT\d{10})-[A-Z0-9._]+$/;

/** Says that a text is an HSA-id, in capitals. */
export function isHsaId(text: string): boolean {
  return text.length <= 31 && HSA_ID.test(text);
}

export function routeOf(hash: string): Route {
  const [hsaId = "", place = "", id = ""] = hash.replace(/^#\/?/, "").split("/");
  if (!isHsaId(hsaId)) return { at: "units" };
  const careUnit = `careUnits/${hsaId}`;
  if (place === "requests" && /^[0-9a-f-]{36}$/.test(id)) return { at: "request", careUnit, id };
  return { at: "list", careUnit, list: LISTS.find((it) => slug(it) === place) ?? Worklist.BOOKING_REQUESTS };
}

export function hashOf(route: Route): string {
  switch (route.at) {
    case "units":
      return "#/";
    case "list":
      return `#/${route.careUnit.slice("careUnits/".length)}/${slug(route.list)}`;
    case "request":
      return `#/${route.careUnit.slice("careUnits/".length)}/requests/${route.id}`;
  }
}

/** Returns the name of a request's place. */
export function requestName(route: { careUnit: string; id: string }): string {
  return `${route.careUnit}/bookingRequests/${route.id}`;
}

/** Returns the place of a request of this name. */
export function requestRoute(name: string): Route {
  const [units = "", hsaId = "", , id = ""] = name.split("/");
  return { at: "request", careUnit: `${units}/${hsaId}`, id };
}

function slug(list: List): string {
  return Worklist[list].toLowerCase().replaceAll("_", "-");
}
