-- Log to files. Every bid with the day (2015-07-15) and the time (18:30, of 24 hours) by which it is filed.
SELECT auction, bidder, price, date_time, extra, strftime(date_time, '%Y-%m-%d'), strftime(date_time, '%H:%M') FROM bid;
