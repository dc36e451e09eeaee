-- Expand bid with auction. Every bid on an auction of category 10, with all of the auction. No time bounds it.
SELECT b.auction, b.bidder, b.price, b.channel, b.url, b.date_time, b.extra, a.item_name, a.description, a.initial_bid,
       a.reserve, a.date_time, a.expires, a.seller, a.category, a.extra
FROM bid b, (FROM auction WHERE category = 10) a
WHERE a.id = b.auction;
