/** A patient, by the number that the server shows. */

import { type Patient, PersonalIdType, Protection } from "../../../careinvitation/v1/booking_request_pb.js";
import { identity } from "../model/format.js";
import { texts } from "../text/language.js";

export function PatientNumber({ patient }: { patient: Patient | undefined }) {
  const said = texts.value.patient;
  if (!patient) return null;
  const isReserve =
    patient.personalIdType === PersonalIdType.LOCAL_RESERVE_NUMBER ||
    patient.personalIdType === PersonalIdType.NATIONAL_RESERVE_NUMBER;
  return (
    <>
      <span class="number">{patient.personalIdMasked ? said.masked : identity(patient)}</span>
      {isReserve && <span class="minor">{said.reserve}</span>}
      {isProtected(patient) && <span class="tag protected">{said.protected}</span>}
    </>
  );
}

function isProtected(patient: Patient): boolean {
  return patient.personalIdMasked || patient.protection !== Protection.UNSPECIFIED;
}
