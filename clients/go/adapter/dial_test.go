package adapter

import "testing"

func TestNothingIsOpenedThatHasNoPlace(t *testing.T) {
	t.Setenv("CARE_INVITATION_ADDRESS", "")
	if _, err := Dial(); err == nil {
		t.Error("there is no service without an address")
	}
	if _, err := OpenJournal(t.Context(), ""); err == nil {
		t.Error("a journal without a place would be forgotten")
	}
}
