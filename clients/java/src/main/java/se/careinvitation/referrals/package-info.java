/**
 * The referral system's side: it says once, and for certain, what happens to referrals.
 *
 * <p>Each event of a referral is one write. It is built once, with its {@code request_id}, and
 * stored in the {@link se.careinvitation.referrals.Journal} before it is sent; after a crash the
 * same write is sent again, and the service knows it by its {@code request_id}.
 */
package se.careinvitation.referrals;
